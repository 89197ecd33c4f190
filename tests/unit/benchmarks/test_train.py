"""What the training benchmark compares: gradients, tasks, the count of operations."""

from importlib.util import find_spec

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bench_train import BARS, Row, bars
from benchmarks.train_cases import ALGORITHMS, PEERS, Case, gradient, relative_error
from benchmarks.train_work import (
    ITEMS,
    QUERY,
    SUPPORT,
    doubled,
    flops,
    make_lane,
    parameters,
    unpadded,
    world,
)
from metarec_ray.models.towers import Towers
from metarec_ray.training.meta_step.step import ParameterState

SMALL = Towers(dim=6, hidden=(5, 4), init_scale=0.5, user_dropout=0.0)
CATALOGUE = 150
needs_torchopt = pytest.mark.skipif(not find_spec("torchopt"), reason="TorchOpt is not installed")
COMPARED = [
    pytest.param(
        Case(implementation, algorithm, steps),
        id=f"{implementation}-{algorithm}-{steps}",
        marks=needs_torchopt if implementation == "torchopt" else (),
    )
    for implementation in ("ours", *PEERS)
    for algorithm in ALGORITHMS[implementation]
    for steps in ((0,) if algorithm == "bayesian_head" else (1, 3))
]


def lane_gradient(case, model=SMALL):
    of = doubled(world(CATALOGUE))
    state: ParameterState = doubled(parameters(case.learner(), CATALOGUE, model))
    return gradient(case, of, state, doubled(make_lane(of, 0, 3)))


@pytest.mark.parametrize("case", COMPARED)
def test_every_implementation_has_the_oracles_meta_gradient(case):
    expected = lane_gradient(case._replace(implementation="vmap"))
    found = lane_gradient(case)
    missing = {name for name in expected.keys() - found.keys() if expected[name].any()}
    assert not missing
    assert relative_error(found, expected) < 1e-9


def test_an_error_is_that_of_the_worst_element_of_any_tensor():
    exact = {"a": torch.tensor([4.0, -8.0]), "b": torch.tensor([1.0]), "zero": torch.zeros(2)}
    found = exact | {"a": torch.tensor([4.5, -8.0])}
    assert relative_error(exact, exact) == 0.0
    assert relative_error(found, exact) == 0.5 / 8
    assert relative_error(exact | {"zero": torch.tensor([0.0, 1e-9])}, exact) > 1
    assert not relative_error(exact | {"b": torch.tensor([torch.nan])}, exact) < 1


def test_a_task_has_10_to_90_support_events_and_10_others_to_be_judged_by():
    lane = make_lane(world(), 0)
    support, query = lane.tasks.support, lane.tasks.query
    sizes = support.mask.sum(1)
    assert SUPPORT[0] <= sizes.min() < 30
    assert 70 < sizes.max() <= SUPPORT[1]
    assert query.mask.all()
    assert query.mask.shape[1] == QUERY
    for row in range(len(sizes)):
        met = torch.cat([support.item[row][support.mask[row]], query.item[row]])
        assert len(met.unique()) == len(met)
    assert torch.equal(lane.items, lane.items.unique())


def test_a_lane_is_the_same_in_a_larger_catalogue_of_which_as_much_occurs():
    usual, larger = make_lane(world(), 3), make_lane(world(2 * ITEMS, met=ITEMS), 3)
    assert torch.equal(usual.items, larger.items)
    assert torch.equal(usual.tasks.support.label, larger.tasks.support.label)


def test_without_padding_a_lane_holds_the_same_events():
    of = world()
    lane = make_lane(of, 0, 2)
    batch = unpadded(lane, of.buffers["offset"])
    first, second = (int(n) for n in lane.tasks.support.mask.sum(1))
    assert batch.sizes == [first, QUERY, second, QUERY]
    assert batch.owner.tolist() == [0] * (first + QUERY) + [1] * (second + QUERY)
    parts = batch.position.split(batch.sizes)
    assert torch.equal(parts[2], lane.tasks.support.item[1, :second])
    assert torch.equal(parts[3], lane.tasks.query.item[1])
    assert torch.equal(batch.labels[2], lane.tasks.support.label[1, :second])
    assert torch.equal(batch.offset, of.buffers["offset"][lane.items[batch.position]])


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil"])
@pytest.mark.parametrize("steps", [1, 5])
def test_the_count_of_operations_is_at_most_what_torch_counts_in_the_loop(algorithm, steps):
    of, case = world(), Case("loop", algorithm, steps)
    lane = make_lane(of, 0, 2)
    with FlopCounterMode(display=False) as counter:
        gradient(case, of, parameters(case.learner()), lane)
    least = flops(algorithm, steps=steps, rows=int(lane.tasks.support.mask.sum()) / 2)
    assert least is not None
    # The loop also takes derivatives that nobody asked for: by the item that the last layer reads.
    assert 2 * least <= counter.get_total_flops() < 1.003 * 2 * least


def test_a_bar_compares_tasks_per_second_or_the_share_of_the_floor():
    of, over, asked = BARS[0]
    assert over is not None
    slow = Row(*over[:2], False, over.inner_steps, 100.0, 1.0, 0.1, 300.0, 0.0)
    fast = Row(*of[:2], False, of.inner_steps, 100.0 * asked, asked, 0.2, 300.0, 0.0)
    held = [row for row in BARS if row[0] == of and (row[1] is None or row[1] == over)]
    lines = bars([slow, fast], held)
    assert lines == [
        "| ours maml 5 / learn2learn maml 5 | 5 | 5.00 |  |",
        "| ours maml 5 / the floor | 0.35 | 0.20 | MISSED |",
    ]
