"""Systems against torch's own solver, whose gradient is another derivation."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap

from metarec_ray.core.matrices.spd import IllConditioned, solve_spd

UNIT = torch.finfo(torch.float64).eps
Solver = Callable[[Tensor, Tensor], Tensor]


def random(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def positive(root: Tensor) -> Tensor:
    return root @ root.mT + torch.eye(root.shape[-1], dtype=root.dtype)


def by_elimination(matrix: Tensor, vector: Tensor) -> Tensor:
    return torch.linalg.solve(matrix, vector.unsqueeze(-1)).squeeze(-1)


def nearly_singular(excess: float) -> Tensor:
    """Return a matrix [2, 2] with eigenvalues 2 and about -excess."""
    return torch.tensor([[1.0, 1 + excess], [1 + excess, 1.0]], dtype=torch.float64)


def loss(solve: Solver, root: Tensor, vector: Tensor) -> Tensor:
    return (solve(positive(root), vector) * torch.arange(1.0, vector.shape[-1] + 1)).sum()


@pytest.mark.parametrize("tasks", [(), (3,), (2, 3)])
@pytest.mark.parametrize("size", [1, 4])
def test_solving_is_the_inverse_of_multiplying(tasks: tuple[int, ...], size: int) -> None:
    matrix, vector = positive(random(*tasks, size, size)), random(*tasks, size, seed=1)
    product = (matrix @ vector.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(solve_spd(matrix, product), vector)


def test_slopes_are_those_of_another_solver() -> None:
    root, vector = random(5, 4, 4), random(5, 4, seed=1)
    found = grad(lambda r, v: loss(solve_spd, r, v), argnums=(0, 1))(root, vector)
    by_torch = grad(lambda r, v: loss(by_elimination, r, v), argnums=(0, 1))(root, vector)
    torch.testing.assert_close(found, by_torch)


def test_slopes_of_slopes_are_right() -> None:
    inputs = (random(2, 3, 3).requires_grad_(), random(2, 3, seed=1).requires_grad_())

    def solution(root: Tensor, vector: Tensor) -> Tensor:
        return solve_spd(positive(root), vector)

    assert gradcheck(solution, inputs)
    assert gradgradcheck(solution, inputs)


def test_a_batch_by_vmap_is_a_batch_by_leading_axes_is_a_loop() -> None:
    root, vector = random(5, 4, 4), random(5, 4, seed=1)
    gradient = grad(lambda r, v: loss(solve_spd, r, v), argnums=(0, 1))
    together, mapped = gradient(root, vector), vmap(gradient)(root, vector)
    over_map = grad(lambda r: vmap(lambda a, b: loss(solve_spd, a, b))(r, vector).sum())(root)
    alone = [gradient(root[task], vector[task]) for task in range(5)]
    looped = tuple(torch.stack(parts) for parts in zip(*alone, strict=True))
    torch.testing.assert_close(together, looped)
    torch.testing.assert_close(mapped, looped)
    torch.testing.assert_close(over_map, looped[0])
    shared = vmap(solve_spd, in_dims=(None, 0))(positive(root[0]), vector)
    torch.testing.assert_close(shared, by_elimination(positive(root[0]).expand(5, 4, 4), vector))


def test_single_precision_is_solved_without_further_loss() -> None:
    # Eigenvalues from 1 to 1e4: single precision alone would lose four digits of seven.
    turned = torch.linalg.qr(random(6, 6)).Q
    matrix = (turned @ torch.diag(torch.logspace(0, 4, 6).double()) @ turned.T).float()
    vector = random(6).float()
    exact = by_elimination(matrix.double(), vector.double())
    found = solve_spd(matrix, vector)
    assert found.dtype == torch.float32
    assert float((found - exact).norm() / exact.norm()) < 1e-6


def test_only_what_failed_is_raised_and_reported_where_it_was_asked_for() -> None:
    vector = torch.ones(3, 2, dtype=torch.float64)
    sound = positive(random(2, 2, 2))
    mixed = torch.stack([sound[0], nearly_singular(0.0), sound[1]])
    # A raise of 16 units of rounding is enough where the least eigenvalue is 0.
    rule = f"1 of 3 systems of 2 equations .* by up to {16 * UNIT:.1e} of themselves"
    with pytest.warns(IllConditioned, match=rule) as reports:
        found = solve_spd(mixed, vector)
    assert [report.filename for report in reports] == [__file__]
    assert torch.equal(found[[0, 2]], solve_spd(sound, vector[:2]))
    torch.testing.assert_close(found[1], vector[1] / 2)


def test_a_raise_grows_until_it_is_enough() -> None:
    matrix = torch.stack([nearly_singular(excess * UNIT) for excess in (8, 100, 1000)])
    rule = f"3 of 3 systems .* by up to {4096 * UNIT:.1e} of themselves"
    with pytest.warns(IllConditioned, match=rule):
        found = vmap(solve_spd)(matrix, torch.ones(3, 2, dtype=torch.float64))
    torch.testing.assert_close(found, torch.full_like(found, 0.5))


def test_a_report_comes_once_a_line() -> None:
    with warnings.catch_warnings(record=True) as reports:
        warnings.simplefilter("default")
        for _ in range(3):
            vmap(solve_spd)(nearly_singular(0.0).unsqueeze(0), torch.ones(1, 2).double())
    assert len(reports) == 1


def test_a_pivot_within_rounding_of_nothing_is_none() -> None:
    # 1 + eps is one unit of single precision from singular: that unit may be all rounding.
    unit = torch.finfo(torch.float32).eps
    with pytest.warns(IllConditioned, match="1 of 1 systems"):
        found = solve_spd(torch.tensor([[1.0, 1.0], [1.0, 1.0 + unit]]), torch.tensor([1.0, 2.0]))
    assert float(found.abs().max()) < 1 / unit / 4


def test_what_rounding_left_indefinite_is_no_number() -> None:
    lost = torch.tensor([[[1.0, 2.0], [2.0, 1.0]], [[torch.nan, 0.0], [0.0, 1.0]]])
    assert solve_spd(lost, torch.ones(2, 2)).isnan().all()
