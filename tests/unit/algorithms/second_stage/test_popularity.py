"""What was popular on a day: against a loop over all events, and blind to what came later."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.popularity import (
    SCALES,
    SHRINK,
    popularity,
    popularity_as_of,
    popularity_features,
)
from metarec_ray.core.batch import DAY
from metarec_ray.core.histories import Histories
from tests.unit.small_histories import histories_of

ITEMS, DAYS = 7, 60
EVERY = torch.arange(ITEMS)


def history(start: int, length: int, generator: torch.Generator) -> list[int]:
    """Times in quarters of a day, many of them at the very beginning of a day."""
    gaps = torch.randint(0, 4, (length,), generator=generator)
    gaps[:1] = 0
    return ((start + gaps.cumsum(0)) * (DAY // 4)).tolist()


def log(*, clock: bool = True, entities: int = 25) -> Histories:
    """Entities of 0 to 40 events; the last ones go on after the cutoff."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(0, 41, (entities,), generator=generator).tolist()
    lengths[3] = 0
    starts = torch.randint(0, 4 * DAYS - 40, (entities,), generator=generator).tolist()
    times = [history(s, n, generator) for s, n in zip(starts, lengths, strict=True)]
    # Item 0 is met most and item 6 hardly ever.
    draw = torch.rand(sum(lengths), generator=generator).square() * ITEMS
    items = [part.tolist() for part in draw.long().split(lengths)]
    flat = [moment for each in times for moment in each]
    return histories_of(
        items,
        n_items=ITEMS,
        time=flat if clock else None,
        cutoff=DAYS * DAY if clock else None,
    )


def histories_by_hand(data: Histories) -> list[list[tuple[int, int]]]:
    """The items and times of each entity."""
    ends = data.offsets.tolist()
    pairs = list(zip(data.item.tolist(), data.time.tolist(), strict=True))
    return [pairs[a:b] for a, b in pairwise(ends)]


def ever(data: Histories, day: int | None) -> list[int]:
    """How often each item was met before a day, or at all."""
    events = [event for history in histories_by_hand(data) for event in history]
    known = [item for item, time in events if day is None or time < day * DAY]
    return [known.count(item) for item in range(ITEMS)]


def expected(data: Histories, day: int | None) -> list[list[float]]:
    """Log-shares and log-counts [S + 1, I] at the beginning of a day, or without a clock."""
    met = [one + 0.1 for one in ever(data, day)]
    share, rows = [20 * one / sum(met) for one in met], list[list[float]]()
    for tau in SCALES:
        count, entities = [0.0] * ITEMS, 0.0
        for events in histories_by_hand(data):
            if not events:
                continue
            start = events[0][1]
            weight = 1.0 if day is None else math.exp(-(day * DAY - start) / DAY / tau)
            entities += weight if day is None or start < day * DAY else 0.0
            for position, (item, time) in enumerate(events):
                if 5 <= position < 25 and (day is None or time < day * DAY):
                    count[item] += weight
        share = [(c + 20 * s) / (entities + 20) for c, s in zip(count, share, strict=True)]
        rows.append([math.log(one) for one in share])
    return [*rows, [math.log(1 + one) for one in ever(data, day)]]


def as_of(data: Histories, moments: list[int]) -> Tensor:
    """Log-shares and log-counts [T, I, S + 1] of the whole catalogue."""
    asked = torch.tensor(moments, dtype=torch.int64)
    return popularity_as_of(data, asked, EVERY.expand(len(moments), -1))


def state_of(data: Histories) -> Tensor:
    """Log-shares and log-counts [I, S + 1] of the state at the end."""
    long, *others, count = popularity(data)["table"][:, : len(SCALES) + 1].unbind(1)
    return torch.stack([long, *(one + long for one in others), count], 1)


def close(found: Tensor, right: list[list[float]]) -> None:
    torch.testing.assert_close(found, torch.tensor(right).T, rtol=1e-5, atol=1e-5)


def test_the_numbers_that_the_loop_is_written_for() -> None:
    assert SHRINK == 20
    assert SCALES == (120.0, 30.0, 7.0)


def test_shares_are_those_of_a_loop_over_what_happened_before_the_day() -> None:
    data = log()
    # Not in order, several a day, at its first and last microsecond, before and after the log.
    moments = [31 * DAY + 5, 9 * DAY, 31 * DAY, 10 * DAY - 1, 0, 59 * DAY + 77, 31 * DAY + DAY - 1]
    moments += [-3 * DAY, 75 * DAY]
    found = as_of(data, moments)
    for row, moment in enumerate(moments):
        close(found[row], expected(data, moment // DAY))
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])
    assert not torch.allclose(found[0], found[1])


def test_an_event_at_the_beginning_of_a_day_is_not_known_on_that_day() -> None:
    # One entity: five events that do not count, a sixth on item 1 when day 3 begins.
    times = [DAY, DAY, DAY, DAY, DAY, 3 * DAY]
    data = histories_of([[0, 0, 0, 0, 0, 1]], n_items=ITEMS, time=times, cutoff=9 * DAY)
    before, on, after = (as_of(data, [moment])[0, 1, 0] for moment in (2 * DAY, 3 * DAY, 4 * DAY))
    # The same count; only the entity fades, which the items share.
    other = as_of(data, [2 * DAY, 3 * DAY, 4 * DAY])[:, 2, 0]
    assert float(before - other[0]) == pytest.approx(float(on - other[1]), abs=1e-5)
    assert float(after - other[2]) > float(on - other[1]) + 0.01


def test_each_task_is_told_of_its_own_items() -> None:
    data = log()
    moments, items = torch.tensor([40 * DAY, 12 * DAY]), torch.tensor([[6, 0, 0], [2, 6, 1]])
    found = popularity_as_of(data, moments, items)
    whole = as_of(data, moments.tolist())
    for task in range(2):
        assert torch.equal(found[task], whole[task, items[task]])


def test_no_moments_are_no_shares() -> None:
    assert as_of(log(), []).shape == (0, ITEMS, 4)
    assert as_of(log(clock=False), []).shape == (0, ITEMS, 4)


@pytest.mark.parametrize("day", [8, 23, 41])
def test_who_met_what_on_the_day_or_later_does_not_matter(day: int) -> None:
    # Later items change places with each other, and later times move: each item is met as often.
    data = log()
    later = (data.time >= day * DAY).nonzero().flatten()
    assert len(later) > 50
    generator = torch.Generator().manual_seed(day)
    item, time = data.item.clone(), data.time.clone()
    item[later] = item[later[torch.randperm(len(later), generator=generator)]]
    time[later] += 100 * DAY
    other = data._replace(item=item, time=time)
    moments = [day * DAY, (day - 3) * DAY + 9, day * DAY + 1]
    assert torch.equal(as_of(data, moments), as_of(other, moments))
    assert not torch.allclose(as_of(data, [70 * DAY]), as_of(other, [70 * DAY]))


@pytest.mark.parametrize("day", [8, 23, 41])
def test_how_often_an_item_is_met_on_the_day_or_later_does_not_matter(day: int) -> None:
    data = log()
    later = data.time >= day * DAY
    other = data._replace(item=torch.where(later, 6, data.item))
    torch.testing.assert_close(as_of(data, [day * DAY]), as_of(other, [day * DAY]))


def test_the_state_is_that_of_the_day_of_the_cutoff() -> None:
    data = log()
    close(state_of(data), expected(data, DAYS))
    torch.testing.assert_close(state_of(data), as_of(data, [DAYS * DAY])[0], rtol=1e-5, atol=1e-5)


def test_without_a_clock_everything_counts_the_same_whatever_the_moment() -> None:
    data = log(clock=False)
    found = as_of(data, [0, 5 * DAY])
    for row in found:
        close(row, expected(data, None))
    close(state_of(data), expected(data, None))


def test_counts_and_positions_are_those_of_all_events() -> None:
    data = log(clock=False)
    met = [[] for _ in range(ITEMS)]
    for events in histories_by_hand(data):
        for position, (item, _) in enumerate(events):
            met[item].append(position)
    every = [position for positions in met for position in positions]
    mean = sum(every) / len(every)
    state = popularity(data)
    counts = [math.log(1 + len(one)) for one in met]
    positions = [math.log(1 + (sum(one) + 5 * mean) / (len(one) + 5)) for one in met]
    assert state["log_count"].tolist() == pytest.approx(counts, rel=1e-5)
    assert state["position"].tolist() == pytest.approx(positions, rel=1e-5)


def test_a_long_history_does_not_drag_the_position_of_what_it_ends_with() -> None:
    # Positions count as 250 at most: item 1 comes at 250, 251 ... 299.
    state = popularity(histories_of([[0] * 250 + [1] * 50], n_items=2))
    mean = (sum(range(250)) + 50 * 250) / 300
    expected = math.log(1 + (50 * 250 + 5 * mean) / 55)
    assert float(state["position"][1]) == pytest.approx(expected)


@pytest.mark.parametrize("cutoff", [None, 4 * DAY])
def test_an_empty_log_makes_all_items_alike(cutoff: int | None) -> None:
    state = popularity(histories_of([[], []], n_items=3, cutoff=cutoff))
    assert all(bool(value.isfinite().all()) for value in state.values())
    assert state["table"].unique(dim=0).shape == (1, 5)


def test_features_are_the_long_run_what_is_new_and_what_is_fixed() -> None:
    state = popularity(log())
    items = torch.tensor([[3, 1], [0, 3]])
    found = popularity_features(state, items, None)
    long, month, week, count = as_of(log(), [DAYS * DAY])[0].T
    for task, row in enumerate(items.tolist()):
        for place, item in enumerate(row):
            right = [long[item], month[item] - long[item], week[item] - long[item]]
            right += [count[item], state["position"][item]]
            torch.testing.assert_close(found[task, place], torch.stack(right), rtol=1e-5, atol=1e-5)
    other = torch.randn(2, 2, 4)
    told = popularity_features(state, items, other)
    assert torch.equal(told[..., [0, 3]], other[..., [0, 3]])
    assert torch.equal(told[..., 1:3], other[..., 1:3] - other[..., :1])
    assert torch.equal(told[..., 4:], found[..., 4:])
