import torch

from metarec_ray.core.quantization import LARGEST, adds_up, quantize


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(shape[0]))


def test_the_largest_entry_of_a_vector_is_exact_and_others_are_off_by_half_a_unit() -> None:
    vectors = torch.tensor([[1.27, -0.254, 0.006], [-254.0, 3.0, 0.0]])
    found = quantize(vectors)
    torch.testing.assert_close(found.unit, torch.tensor([0.01, 2.0]))
    assert found.value.tolist() == [[127, -25, 1], [-127, 2, 0]]


def test_products_are_those_of_the_rounded_vectors() -> None:
    some, others = quantize(drawn(3, 8)), quantize(drawn(50, 8))
    left, right = (one.value.float() * one.unit.unsqueeze(1) for one in (some, others))
    torch.testing.assert_close(some.products(others), left @ right.T)


def test_products_are_off_by_little() -> None:
    some, others = drawn(2, 64), drawn(500, 64)
    exact = some @ others.T
    error = quantize(some).products(quantize(others)) - exact
    assert float(error.std() / exact.std()) < 0.015


def test_vectors_of_nothing_and_of_tiny_numbers_stay_finite() -> None:
    found = quantize(torch.tensor([[0.0, 0.0], [1e-38, -1e-38]]))
    assert found.value[0].tolist() == [0, 0]
    assert bool(torch.isfinite(found.products(found)).all())


def test_a_machine_whose_products_are_wrong_is_found_out() -> None:
    for width in (4, 32, 64):
        largest = torch.full((2, width), float(LARGEST))
        exact = torch.equal(
            quantize(largest).products(quantize(largest)), torch.full((2, 2), width * LARGEST**2.0)
        )
        assert adds_up(width) == exact
