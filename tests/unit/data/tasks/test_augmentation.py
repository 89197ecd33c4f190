import numpy as np
import pytest
import torch
from pydantic import ValidationError

from metarec_ray.core.batch import Events, Lane
from metarec_ray.data.tasks.augmentation import Augmentation, draw, thinned
from metarec_ray.data.tasks.cuts import Cut
from metarec_ray.data.tasks.lanes import LaneSampler
from tests.unit.small_histories import histories_of

ITEMS, USERS, EVENTS = 60, 12, 30
REFERENCE = torch.tensor([3, 8, 30])
CUT = Cut(ks=(0, 3, 10), window=10, query_size=5, negatives=4)
SIZES = {"lanes": 4, "lane_tasks": 6}


def sampler(augmented: Augmentation | None, cut: Cut = CUT) -> LaneSampler:
    rng = np.random.default_rng(0)
    items = [rng.permutation(ITEMS)[:EVENTS].tolist() for _ in range(USERS)]
    histories = histories_of(items, n_items=ITEMS)
    n = len(histories.item)
    histories = histories._replace(
        label=torch.from_numpy(rng.standard_normal(n)).float(), time=torch.arange(n) + 1
    )
    everything = torch.ones(ITEMS, dtype=torch.bool)
    return LaneSampler(histories, everything, cut, reference=REFERENCE, augmented=augmented)


def lanes(augmented: Augmentation | None, *, steps: int = 4, seed: int = 5) -> list[Lane]:
    source = sampler(augmented)
    return [source.lane(seed, step, n, **SIZES) for step in range(steps) for n in range(4)]


def flat(value) -> list:
    if isinstance(value, torch.Tensor):
        return [value.tolist()]
    return [one for part in value for one in flat(part)]


def raters(events: Events, lane: Lane, task: int) -> list[tuple[int, int]]:
    """The events of a set by time and row of the catalogue."""
    real = events.mask[task]
    items = lane.items[events.item[task][real]]
    return list(zip(events.time[task][real].tolist(), items.tolist(), strict=True))


def test_zeros_are_the_bits_of_no_augmentation() -> None:
    for plain, zero in zip(lanes(None), lanes(Augmentation()), strict=True):
        assert flat(plain) == flat(zero)


def test_a_task_is_augmented_alike_whoever_draws_its_lane_and_whenever() -> None:
    asked = Augmentation(label_shift=0.7, support_dropout=0.4)
    alone = sampler(asked).share(5, 2, 0, 1, **SIZES)
    busy = sampler(asked)
    for step in (7, 0, 3):
        busy.share(5, step, 1, 2, **SIZES)
    np.random.default_rng(0).random(9)
    torch.manual_seed(1)
    halves = sampler(asked).share(5, 2, 0, 2, **SIZES) | busy.share(5, 2, 1, 2, **SIZES)
    assert {n: flat(lane) for n, lane in alone.items()} == {n: flat(halves[n]) for n in alone}
    assert flat(alone[0]) != flat(sampler(asked).lane(6, 2, 0, **SIZES))


def test_what_is_random_about_a_task_does_not_depend_on_its_neighbours() -> None:
    asked = Augmentation(label_shift=1.0, support_dropout=0.5)
    epochs, ids = np.array([0, 0, 1, 1]), np.array([7, 8, 7, 8])
    together = draw(asked, 3, epochs, ids, width=5)
    for n in range(4):
        alone = draw(asked, 3, epochs[n : n + 1], ids[n : n + 1], width=5)
        assert (alone.shift[0], *alone.kept[0]) == (together.shift[n], *together.kept[n])
    assert len(set(together.shift)) == 4


def test_a_label_shift_moves_support_and_query_by_one_number_and_nothing_else() -> None:
    found = []
    for plain, moved in zip(lanes(None), lanes(Augmentation(label_shift=0.5)), strict=True):
        shift = moved.tasks.query.label[:, 0] - plain.tasks.query.label[:, 0]
        for before, after in zip(plain.tasks[:2], moved.tasks[:2], strict=True):
            due = torch.where(before.mask, before.label + shift[:, None], 0.0)
            assert torch.allclose(after.label, due, atol=1e-6)
        told = plain.tasks.support.mask.any(1)
        assert (shift[~told] == 0).all()
        found += shift[told].tolist()
        labels = (plain.tasks.support.label, plain.tasks.query.label)
        support, query = (
            events._replace(label=label)
            for events, label in zip(moved.tasks[:2], labels, strict=True)
        )
        back = moved.tasks._replace(support=support, query=query)
        assert flat(moved._replace(tasks=back)) == flat(plain)
    # About 64 tasks with a support: a mean within 4 standard errors of 0, a deviation near 0.5.
    assert abs(np.mean(found)) < 4 * 0.5 / len(found) ** 0.5
    assert np.std(found) == pytest.approx(0.5, rel=0.25)


def test_support_dropout_leaves_a_shorter_support_in_order_and_the_query_as_it_was() -> None:
    left, out = 0, 0
    for plain, thin in zip(lanes(None), lanes(Augmentation(support_dropout=0.3)), strict=True):
        assert torch.equal(plain.tasks.begins, thin.tasks.begins)
        negatives = [lane.items[lane.tasks.negatives] for lane in (plain, thin)]
        assert torch.equal(*negatives)
        for task in range(len(plain.entity)):
            assert raters(plain.tasks.query, plain, task) == raters(thin.tasks.query, thin, task)
            whole = raters(plain.tasks.support, plain, task)
            kept = raters(thin.tasks.support, thin, task)
            assert [event for event in whole if event in kept] == kept
            left, out = left + len(kept), out + len(whole) - len(kept)
        events = thin.tasks.support
        # Real events stand first, so the newest has age 0; padding is as everywhere.
        assert not (events.mask[:, 1:] & ~events.mask[:, :-1]).any()
        for column in (events.item, events.label, events.time):
            assert not column[~events.mask].any()
    # Of some 400 events 0.3 are out, standard deviation 0.023.
    assert out / (left + out) == pytest.approx(0.3, abs=0.09)


def test_a_thinned_support_is_the_span_of_the_events_that_are_kept() -> None:
    at, mask = np.array([[4, 5, 6, 7]]), np.array([[True, True, True, False]])
    kept = np.array([[False, True, True, True]])
    found, real = thinned((at, mask), kept)
    assert found[real].tolist() == [5, 6]
    assert real.tolist() == [[True, True, False, False]]
    nothing = thinned((at, mask), np.zeros_like(kept))
    assert not nothing[1].any()


@pytest.mark.parametrize(
    "wrong", [{"label_shift": -1.0}, {"support_dropout": 1.0}, {"support_dropout": -0.1}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Augmentation(**wrong)
