import torch
from torch import Tensor

from metarec_ray.core.quantization import LARGEST, Quantized, adds_up, int_mm, quantize


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(shape[0]))


def restored(found: Quantized) -> Tensor:
    return found.centre + found.scale * (found.unit.double().unsqueeze(1) * found.value)


def products(quantized: Quantized, vectors: Tensor, rows: slice = slice(None)) -> Tensor:
    queries = quantized.queries(vectors)
    return quantized.products(queries, rows).double() + queries.shift.unsqueeze(1)


def test_entries_are_off_by_half_a_unit_of_their_row_and_column() -> None:
    vectors = drawn(500, 8) * torch.logspace(-3, 3, 8) + 7
    found = quantize(vectors)
    off = (restored(found) - vectors).abs() / found.scale
    assert bool((off <= 0.5001 * found.unit.double().unsqueeze(1)).all())
    assert int(found.value.abs().max()) == LARGEST
    # A column's power of two is within its spread, and no more than half of it is lost.
    spread = vectors.std(0, correction=0)
    assert bool(((found.scale <= spread) & (spread < 2 * found.scale)).all())


def test_no_product_is_off_by_more_than_is_said_and_most_by_a_tenth_of_it() -> None:
    queries = drawn(5, 64) * torch.logspace(-2, 2, 64)
    vectors = drawn(3000, 64) / torch.logspace(-2, 2, 64) + 2
    vectors[7, 3] = 1e4
    quantized = quantize(vectors)
    found, reach = products(quantized, queries), quantized.queries(queries).reach
    exact = queries.double() @ vectors.double().T
    off = (found - exact).abs() / (reach.unsqueeze(1) * quantized.error)
    assert float(off.max()) <= 1
    assert 0.03 < float(off.median()) < 0.3
    assert float(((found - exact).std(1) / exact.std(1)).max()) < 0.01


def test_one_query_is_multiplied_as_several_are_and_piece_by_piece() -> None:
    quantized, queries = quantize(drawn(300, 16)), drawn(3, 16)
    together = products(quantized, queries)
    alone = torch.cat([products(quantized, one.unsqueeze(0)) for one in queries])
    torch.testing.assert_close(together, alone)
    assert torch.equal(products(quantized, queries, slice(50, 200)), together[:, 50:200])


def test_vectors_and_queries_of_nothing_and_of_tiny_numbers_stay_finite() -> None:
    found = quantize(torch.tensor([[0.0, 0.0], [1e-38, -1e-38]]))
    for query in (torch.zeros(1, 2), torch.tensor([[1e-38, 1e30]])):
        assert bool(products(found, query).isfinite().all())
    assert bool(quantize(torch.zeros(3, 2)).error.eq(0).all())


def test_a_machine_whose_products_are_wrong_is_found_out() -> None:
    for width in (4, 32, 64):
        largest = torch.full((2, width), LARGEST, dtype=torch.int8)
        exact = int_mm(largest, largest.T).eq(width * LARGEST**2)
        assert adds_up(width) == bool(exact.all())
