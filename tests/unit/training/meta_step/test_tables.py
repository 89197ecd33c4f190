"""Tables of embedding rows: what a lane reads of them, what a step changes."""

import torch
from torch import Tensor

from metarec_ray.core.batch import Features, Lane
from metarec_ray.core.parameters import Rows
from metarec_ray.training.meta_step.optimizer import moments, step_dense
from metarec_ray.training.meta_step.tables import lookup, merge, update

RATE, DECAY = 0.03, 0.1
NOTHING = Features(torch.zeros(2, 0).long(), torch.zeros(2, 0), torch.zeros(2, 0))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def lane(entities: list[int], items: list[int]) -> Lane:
    entity, item, reference = (torch.tensor(ids) for ids in (entities, items, [0]))
    return Lane(entity, NOTHING, item, NOTHING, reference, tasks=None)  # pyright: ignore[reportArgumentType]


def test_an_entity_that_stands_in_a_lane_twice_is_read_once_and_has_one_gradient() -> None:
    table = random(5, 2)
    rows = lookup(Rows("user", "ids"), table, lane([4, 1, 4], [2, 3]))
    assert rows.ids.tolist() == [1, 4]
    values = rows.values.requires_grad_()
    assert torch.equal(rows.each(values), table[[4, 1, 4]])
    rows.each(values).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[1, 1], [2, 2]]


def test_the_items_of_a_lane_are_read_as_they_stand() -> None:
    table = random(5, 2)
    rows = lookup(Rows("item", "ids"), table, lane([0], [2, 3]))
    assert torch.equal(rows.each(rows.values), table[[2, 3]])


def test_gradients_of_lanes_are_averaged_row_by_row() -> None:
    one = torch.tensor([0, 2]), torch.tensor([[1.0], [2.0]])
    two = torch.tensor([2, 3]), torch.tensor([[4.0], [8.0]])
    ids, gradient = merge([one, two])
    assert ids.tolist() == [0, 2, 3]
    assert gradient.flatten().tolist() == [1 / 2, (2 + 4) / 2, 8 / 2]


def test_a_table_whose_rows_are_all_touched_is_a_dense_parameter() -> None:
    table, dense = {"item.ids": random(5, 2)}, {"item.ids": random(5, 2)}
    states = moments(table), moments(dense)
    order = torch.tensor([3, 0, 4, 1, 2])
    for step in range(6):
        gradient = random(5, 2, seed=step)
        rows = order, gradient[order]
        settings = {"step": step, "lr": RATE}
        update("item.ids", table["item.ids"], states[0], *rows, **settings, weight_decay=DECAY)
        decay = {"item.ids": DECAY}
        step_dense(dense, {"item.ids": gradient}, states[1], **settings, decay=decay)
    assert torch.equal(table["item.ids"], dense["item.ids"])


def test_rows_that_were_not_touched_keep_their_value_and_their_moments() -> None:
    table = random(4, 2)
    state = {name: random(4, 2, seed=9).abs() for name in ("m.item.ids", "v.item.ids")}
    before = [value.clone() for value in (table, *state.values())]
    rows = torch.tensor([2])
    update("item.ids", table, state, rows, random(1, 2), step=7, lr=RATE, weight_decay=DECAY)
    untouched = torch.tensor([True, True, False, True])
    for old, new in zip(before, (table, *state.values()), strict=True):
        assert torch.equal(old[untouched], new[untouched])
        assert not torch.equal(old[2], new[2])
