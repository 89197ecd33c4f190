import numpy as np
import pytest
import torch
from pydantic import ValidationError

from metarec_ray.core.batch import Features, Lane
from metarec_ray.core.histories import Histories
from metarec_ray.data.draws import mixed, uniform
from metarec_ray.data.tasks.cuts import Cut, fitting
from metarec_ray.data.tasks.lanes import LaneSampler
from metarec_ray.data.tasks.negatives import Sampling
from metarec_ray.errors import DataError
from tests.unit.small_histories import histories_of

ITEMS, LENGTHS = 50, [12, 3, 40, 25, 10, 11, 18]
REFERENCE = torch.tensor([3, 8, 30])
CUT = Cut(ks=(0, 1, 3), window=10, query_size=5)


def table(lengths: list[int]) -> Histories:
    """Histories whose `time` is the event's number plus 1, and whose items do not repeat."""
    generator = torch.Generator().manual_seed(3)
    items = [torch.randperm(ITEMS, generator=generator)[:n] for n in lengths]
    n = sum(lengths)
    return histories_of([one.tolist() for one in items], n_items=ITEMS)._replace(
        task_id=100 + torch.arange(len(lengths)),
        label=torch.arange(n) / 7,
        time=torch.arange(n) + 1,
        context=Features(
            torch.zeros(n, 0, dtype=torch.int64),
            torch.zeros(n, 0),
            torch.rand(n, 1, generator=generator),
        ),
    )


def sampler(cut: Cut = CUT, lengths: list[int] | None = None) -> LaneSampler:
    everything = torch.ones(ITEMS, dtype=torch.bool)
    histories = table(LENGTHS if lengths is None else lengths)
    return LaneSampler(histories, everything, cut, reference=REFERENCE)


def ask(source: LaneSampler, step: int = 0, index: int = 0, *, seed: int = 5) -> Lane:
    return source.lane(seed, step, index, lanes=2, lane_tasks=6)


def flat(lane: Lane) -> list[list]:
    tensors = [lane.entity, lane.items, lane.reference, lane.tasks.negatives]
    for events in (lane.tasks.support, lane.tasks.query):
        tensors += [*events[:4], *events.context]
    return [tensor.tolist() for tensor in tensors]


@pytest.mark.parametrize("negatives", [0, 4])
def test_a_lane_is_the_same_whatever_was_asked_before(negatives: int) -> None:
    cut = CUT.model_copy(update={"negatives": negatives})
    busy = sampler(cut)
    for step, index in [(9, 1), (0, 0), (4, 1), (4, 0)]:
        ask(busy, step, index)
    np.random.default_rng(0).random(100)
    torch.manual_seed(999)
    assert flat(ask(busy, 4, 1)) == flat(ask(sampler(cut), 4, 1))


def test_seeds_steps_and_lanes_differ() -> None:
    base = flat(ask(sampler(), 0, 0))
    assert base != flat(ask(sampler(), 0, 0, seed=6))
    assert base != flat(ask(sampler(), 1, 0))
    assert base != flat(ask(sampler(), 0, 1))


def test_every_eligible_entity_comes_once_an_epoch() -> None:
    # More than 10 events: entities 0, 2, 3, 5 and 6; two lanes of 5 tasks are two epochs.
    source = sampler()
    assert len(source) == 5
    for epoch in range(2):
        lane = source.lane(5, 0, epoch, lanes=2, lane_tasks=5)
        assert sorted(lane.entity.tolist()) == [100, 102, 103, 105, 106]


@pytest.mark.parametrize(
    ("lane_tasks", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (9, [5])]
)
def test_an_epoch_holds_every_eligible_entity_once(lane_tasks: int, sizes: list[int]) -> None:
    lanes = list(sampler().epoch(5, lane_tasks=lane_tasks))
    assert [len(lane.entity) for lane in lanes] == sizes
    everyone = [entity for lane in lanes for entity in lane.entity.tolist()]
    assert sorted(everyone) == [100, 102, 103, 105, 106]
    # Whole lanes are those of the endless order.
    if sizes[0] == lane_tasks:
        again = sampler().lane(5, 0, 0, lanes=len(lanes), lane_tasks=lane_tasks)
        assert flat(lanes[0]) == flat(again)


def test_the_query_follows_the_window_that_the_support_begins() -> None:
    histories = table(LENGTHS)
    for step in range(20):
        lane = ask(sampler(), step)
        for task, entity in enumerate((lane.entity - 100).tolist()):
            begin, end = histories.offsets[entity : entity + 2].tolist()
            support = lane.tasks.support.time[task][lane.tasks.support.mask[task]].tolist()
            query = lane.tasks.query.time[task][lane.tasks.query.mask[task]].tolist()
            first = query[0] - 10
            assert support == list(range(first, first + len(support)))
            assert len(support) in CUT.ks
            # As many as there are, five at most, and all of this entity's own.
            assert query == list(range(query[0], min(query[0] + 5, end + 1)))
            assert begin < first


def test_events_keep_their_item_label_and_context() -> None:
    histories = table(LENGTHS)
    lane = ask(sampler(CUT.model_copy(update={"negatives": 3})), 2)
    for events in (lane.tasks.support, lane.tasks.query):
        number = events.time[events.mask] - 1
        assert torch.equal(lane.items[events.item[events.mask]], histories.item[number])
        assert torch.equal(events.label[events.mask], histories.label[number])
        assert torch.equal(events.context.dense[events.mask], histories.context.dense[number])


def test_padding_is_item_zero_label_zero_time_zero() -> None:
    for lane in (ask(sampler(), step) for step in range(5)):
        for events in (lane.tasks.support, lane.tasks.query):
            for column in (events.item, events.label, events.time):
                assert not column[~events.mask].any()
            # Real events stand first.
            assert not (events.mask[:, 1:] & ~events.mask[:, :-1]).any()


def test_all_support_sizes_are_drawn_and_windows_begin_anywhere() -> None:
    cut = CUT.model_copy(update={"start_share": 0.0})
    lane = sampler(cut, [40]).lane(1, 0, 0, lanes=1, lane_tasks=400)
    sizes = lane.tasks.support.mask.sum(1)
    for k in CUT.ks:
        # 400 draws of probability 1/3: mean 133, standard deviation 9.4.
        assert abs(int((sizes == k).sum()) - 400 / 3) < 4 * 9.4
    starts = lane.tasks.query.time[:, 0] - 10
    assert sorted(set(starts.tolist())) == list(range(1, 40 - 15 + 2))


def test_a_start_share_of_one_begins_with_the_first_event() -> None:
    lane = sampler(CUT.model_copy(update={"start_share": 1.0}), [40, 30]).lane(
        1, 0, 0, lanes=1, lane_tasks=50
    )
    first = torch.where(lane.entity == 100, 1, 41)
    assert torch.equal(lane.tasks.query.time[:, 0] - 10, first)


def test_a_short_history_has_a_short_query() -> None:
    lane = sampler(CUT, [12]).lane(1, 0, 0, lanes=1, lane_tasks=1)
    assert lane.tasks.query.mask.tolist() == [[True, True, False, False, False]]


def test_negatives_are_never_of_the_own_history() -> None:
    histories = table([45, 45])
    lane = sampler(CUT.model_copy(update={"negatives": 30}), [45, 45]).lane(
        1, 0, 0, lanes=1, lane_tasks=8
    )
    for task, entity in enumerate((lane.entity - 100).tolist()):
        begin, end = histories.offsets[entity : entity + 2].tolist()
        own = set(histories.item[begin:end].tolist())
        drawn = lane.items[lane.tasks.negatives[task]].tolist()
        assert len(drawn) == 30
        assert not own & set(drawn)


def test_a_lane_holds_only_the_items_it_needs_and_the_reference() -> None:
    lane = ask(sampler(CUT.model_copy(update={"negatives": 2})))
    needed = {*REFERENCE.tolist(), *lane.items[lane.tasks.negatives].flatten().tolist()}
    for events in (lane.tasks.support, lane.tasks.query):
        needed |= set(lane.items[events.item[events.mask]].tolist())
    assert lane.items.tolist() == sorted(needed)
    assert lane.items[lane.reference].tolist() == REFERENCE.tolist()
    assert ask(sampler()).items.tolist() == list(range(ITEMS))


@pytest.mark.parametrize("sampling", ["uniform", "popularity", "in_batch"])
def test_negatives_are_of_no_event_that_is_not_taught(sampling: Sampling) -> None:
    whole = table(LENGTHS)
    position = torch.arange(len(whole.item)) - whole.offsets[:-1].repeat_interleave(whole.lengths())
    cut = CUT.model_copy(update={"negatives": 8, "negative_sampling": sampling})
    everything = torch.ones(ITEMS, dtype=torch.bool)
    source = LaneSampler(whole.keep(position >= 5), everything, cut, reference=REFERENCE, met=whole)
    for step in range(10):
        lane = ask(source, step)
        for entity, places in zip(lane.entity.tolist(), lane.tasks.negatives, strict=True):
            start, end = whole.offsets[entity - 100 : entity - 98].tolist()
            assert not set(lane.items[places].tolist()) & set(whole.item[start:end].tolist())


def test_who_met_everything_has_no_negative() -> None:
    source = sampler(CUT.model_copy(update={"negatives": 1}), [ITEMS])
    with pytest.raises(DataError, match=r"negatives.*, task 100 met all 50"):
        source.lane(1, 0, 0, lanes=1, lane_tasks=1)


def test_histories_that_have_no_two_events_are_refused() -> None:
    message = "more than 10 events .train.tasks.window., the longest of 3 has 1"
    with pytest.raises(DataError, match=message):
        sampler(CUT, [1, 1, 0])


def test_a_window_is_half_of_the_longest_history_where_none_is_longer_than_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = sampler(CUT, [3, 6, 4])
    assert (source.cut.window, source.cut.ks) == (3, (0, 1, 3))
    assert len(source) == 2  # of 6 and of 4 events
    assert (
        "no history has more than 10 events (train.tasks.window), the longest has 6"
        in (caplog.messages[0])
    )
    assert fitting(CUT.model_copy(update={"ks": (10,)}), 2).ks == (1,)
    assert fitting(CUT, 11) is CUT


def test_a_window_must_hold_every_support_size() -> None:
    with pytest.raises(ValidationError, match=r"<= window, got ks \[1, 7\] and window 5"):
        Cut(ks=(1, 7), window=5)


def test_a_tasks_draws_do_not_depend_on_its_neighbours() -> None:
    epochs, tasks = np.array([0, 0, 1, 1]), np.array([7, 8, 7, 8])
    together = uniform(3, epochs, tasks, draws=3)
    alone = np.concatenate(
        [uniform(3, epochs[i : i + 1], tasks[i : i + 1], draws=3) for i in range(4)]
    )
    assert (together == alone).all()
    assert len(np.unique(together)) == 12


def test_draws_are_uniform() -> None:
    drawn = uniform(0, np.zeros(20_000, np.int64), np.arange(20_000), draws=2)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    # The standard error of a mean of 20,000 uniforms is 1 / sqrt(12 * 20,000) = 0.002.
    assert np.abs(drawn.mean(0) - 1 / 2).max() < 0.01
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.03


def test_a_hash_of_a_row_depends_on_each_of_its_numbers_and_their_order() -> None:
    left, right = np.array([1, 1, 2, 2, -1]), np.array([1, 2, 1, 2, 0])
    found = mixed(3, left, right)
    assert len({*found.tolist(), *mixed(4, left, right).tolist()}) == 10
    assert mixed(3, left[1:2], right[1:2])[0] == found[1]
