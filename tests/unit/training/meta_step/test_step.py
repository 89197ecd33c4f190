import pytest
import torch

from metarec_ray.core.parameters import Parameter, Rows
from metarec_ray.errors import RunFailed
from metarec_ray.training.meta_step.optimizer import moments, step_dense
from metarec_ray.training.meta_step.step import (
    Alone,
    LaneResult,
    ParameterState,
    apply,
    divide,
    fresh_state,
)

DECAY = {"head.out.bias": 0.0, "head.out.weight": 0.01, "item.ids": 0.01}


def state() -> ParameterState:
    dense = {"head.out.bias": torch.tensor(1.0), "head.out.weight": torch.tensor([2.0, 3.0])}
    tables = {"item.ids": torch.arange(8.0).view(4, 2)}
    return ParameterState(dense, tables, moments(dense | tables))


def lane(dense: list[float], ids: list[int], rows: list[list[float]], loss: float) -> LaneResult:
    return LaneResult(
        dense=torch.tensor(dense),
        rows={"item.ids": (torch.tensor(ids), torch.tensor(rows))},
        metrics=torch.tensor([loss, loss / 2]),
    )


ONE = lane([1.0, 2.0, 3.0], [0, 2], [[1.0, 0.0], [0.0, 1.0]], 4.0)
TWO = lane([3.0, 0.0, 1.0], [2, 3], [[2.0, 1.0], [0.0, 5.0]], 2.0)


def taken(results: list[LaneResult], *, max_norm: float = 1e9) -> tuple[ParameterState, list]:
    after = state()
    metrics = apply(after, results, step=0, lr=0.1, decay=DECAY, max_norm=max_norm)
    return after, metrics.tolist()


def test_what_is_frozen_is_a_part_whatever_it_is_called() -> None:
    declared = {
        "item.map": Parameter(torch.zeros(2)),
        "offset": Parameter(torch.ones(3), part="item"),
        "rows": Parameter(torch.ones(3, 2), rows=Rows("item", "ids"), part="item"),
    }
    begun = fresh_state(declared, torch.device("cpu"))
    moving, frozen = divide(begun, declared, ["item"])
    assert (set(moving.dense), set(moving.tables)) == ({"item.map"}, set())
    assert (set(frozen.dense), set(frozen.tables)) == ({"offset"}, {"rows"})


def test_a_step_follows_the_mean_over_lanes() -> None:
    after, metrics = taken([ONE, TWO])
    assert metrics == [(4 + 2) / 2, (2 + 1) / 2]
    expected = state()
    gradient = {
        "head.out.bias": torch.tensor((1.0 + 3) / 2),
        "head.out.weight": torch.tensor([(2.0 + 0) / 2, (3.0 + 1) / 2]),
        "item.ids": torch.tensor([[1, 0], [0, 0], [0 + 2, 1 + 1], [0, 5]]) / 2,
    }
    everything = expected.dense | expected.tables
    step_dense(everything, gradient, expected.moments, step=0, lr=0.1, decay=DECAY)
    for name, value in after.dense.items():
        torch.testing.assert_close(value, expected.dense[name])
    # Row 1 was touched by no lane: not even weight decay moves it.
    table, before = after.tables["item.ids"], state().tables["item.ids"]
    assert torch.equal(table[1], before[1])
    torch.testing.assert_close(table[[0, 2, 3]], expected.tables["item.ids"][[0, 2, 3]])


def test_the_gradient_is_clipped_over_parameters_and_rows_together() -> None:
    after, _ = taken([ONE], max_norm=1.0)
    norm = (1 + 4 + 9 + 1 + 1) ** 0.5
    torch.testing.assert_close(after.moments["m.head.out.bias"], torch.tensor(0.1 * 1 / norm))
    torch.testing.assert_close(after.moments["m.item.ids"][2], torch.tensor([0.0, 0.1 * 1 / norm]))


def test_clipping_leaves_the_lanes_own_gradients_alone() -> None:
    taken([ONE], max_norm=0.1)
    assert ONE.dense.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_the_run_and_names_its_lanes(bad: float) -> None:
    torn = ONE._replace(dense=torch.tensor([1.0, bad, 3.0]))
    before, now = state(), state()
    message = r"step 7 has NaN or infinity in lanes \[1, 3\]"
    with pytest.raises(RunFailed, match=message):
        apply(now, [ONE, torn, TWO, torn], step=7, lr=0.1, decay=DECAY, max_norm=1.0)
    for old, new in zip(before, now, strict=True):
        assert all(torch.equal(old[name], new[name]) for name in old)


def test_a_row_that_is_not_finite_stops_the_run_too() -> None:
    torn = lane([1.0, 2.0, 3.0], [0], [[float("nan"), 0.0]], 1.0)
    with pytest.raises(RunFailed, match=r"lanes \[0\]"):
        apply(state(), [torn, ONE], step=0, lr=0.1, decay=DECAY, max_norm=1.0)


def test_alone_hands_lanes_back_in_order() -> None:
    assert Alone().gather({1: TWO, 0: ONE}, 2) == [ONE, TWO]
