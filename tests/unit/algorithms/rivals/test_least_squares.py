import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.base import ALONE
from metarec_ray.algorithms.rivals.least_squares import System, blocks, solve_row, solve_rows


def system(columns: int, size: int, *, exponent: float = 1.0) -> System:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(size, size, generator=generator)
    return System(
        design=torch.randn(columns, size, generator=generator),
        offset=torch.randn(columns, generator=generator),
        base=base @ base.T,
        penalty=torch.linspace(0.5, 1.5, size),
        extra=2.0,
        exponent=exponent,
    )


def entries(rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    met = torch.rand(rows, columns, generator=generator) < 0.3
    row, column = met.nonzero().unbind(1)
    return row, column, torch.randn(len(row), generator=generator)


def test_a_row_is_the_solution_of_its_normal_equations():
    # (X'X + base + diag(penalty) (n + extra)^exponent) w = X'(value - offset), n = 3 entries.
    given = system(5, 3, exponent=0.5)
    column, value = torch.tensor([4, 0, 2]), torch.tensor([1.0, -2.0, 0.5])
    x = given.design[column]
    normal = x.T @ x + given.base + torch.diag(given.penalty) * (3 + 2.0) ** 0.5
    expected = torch.linalg.solve(normal, x.T @ (value - given.offset[column]))
    found = solve_row(given, column, value, torch.ones(3, dtype=torch.bool))
    assert torch.allclose(found, expected, atol=1e-5)


def test_padding_and_what_it_holds_change_no_row():
    given, column = system(5, 3), torch.tensor([4, 0])
    value = torch.tensor([1.0, -2.0])
    plain = solve_row(given, column, value, torch.ones(2, dtype=torch.bool))
    padded = solve_row(
        given,
        torch.tensor([4, 0, 3]),
        torch.tensor([1.0, -2.0, 9.0]),
        torch.tensor([True, True, False]),
    )
    assert torch.allclose(plain, padded, atol=1e-6)


def test_a_row_without_entries_is_zero():
    nothing = torch.zeros(2, dtype=torch.bool)
    found = solve_row(system(5, 3), torch.tensor([0, 1]), torch.ones(2), nothing)
    assert found.tolist() == [0, 0, 0]


def test_all_rows_at_once_are_the_rows_one_by_one():
    given = system(6, 3)
    row, column, value = entries(700, 6)  # more rows than one block takes
    found = solve_rows(given, blocks(row, column, value), 702, ALONE)
    for one in (0, 5, 350, 699):
        mine = row == one
        everything = torch.ones(int(mine.sum()), dtype=torch.bool)
        expected = solve_row(given, column[mine], value[mine], everything)
        assert torch.allclose(found[one], expected, atol=1e-5)
    assert found[700:].tolist() == [[0.0] * 3] * 2


def test_blocks_hold_every_entry_once():
    row, column, value = entries(700, 6)
    found = blocks(row, column, value)
    assert len(found) > 1
    held = torch.zeros(700, 6)
    for block in found:
        rows = block.row.unsqueeze(1).expand_as(block.column)
        held.index_put_((rows[block.mask], block.column[block.mask]), block.value[block.mask], True)
    assert torch.equal(held, torch.zeros(700, 6).index_put((row, column), value))


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_blocks_take_entries_in_any_order(order: str):
    row, column, value = entries(20, 6)
    if order == "shuffled":
        shuffle = torch.randperm(len(row), generator=torch.Generator().manual_seed(2))
        row, column, value = row[shuffle], column[shuffle], value[shuffle]
    given = system(6, 3)
    expected = solve_rows(given, blocks(*entries(20, 6)), 20, ALONE)
    assert torch.allclose(
        solve_rows(given, blocks(row, column, value), 20, ALONE), expected, atol=1e-5
    )
