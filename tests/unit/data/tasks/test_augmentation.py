import numpy as np
import pytest
import torch
from pydantic import ValidationError

from metarec_ray.core.batch import Lane
from metarec_ray.data.tasks.augmentation import Augmentation, label_shifts
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


def test_zeros_are_the_bits_of_no_augmentation() -> None:
    for plain, zero in zip(lanes(None), lanes(Augmentation()), strict=True):
        assert flat(plain) == flat(zero)


def test_a_task_is_augmented_alike_whoever_draws_its_lane_and_whenever() -> None:
    asked = Augmentation(label_shift=0.7)
    alone = sampler(asked).share(5, 2, 0, 1, **SIZES)
    busy = sampler(asked)
    for step in (7, 0, 3):
        busy.share(5, step, 1, 2, **SIZES)
    np.random.default_rng(0).random(9)
    torch.manual_seed(1)
    halves = sampler(asked).share(5, 2, 0, 2, **SIZES) | busy.share(5, 2, 1, 2, **SIZES)
    assert {n: flat(lane) for n, lane in alone.items()} == {n: flat(halves[n]) for n in alone}
    assert flat(alone[0]) != flat(sampler(asked).lane(6, 2, 0, **SIZES))


def test_the_shift_of_a_task_does_not_depend_on_its_neighbours() -> None:
    asked = Augmentation(label_shift=1.0)
    epochs, ids = np.array([0, 0, 1, 1]), np.array([7, 8, 7, 8])
    together = label_shifts(asked, 3, epochs, ids)
    alone = [label_shifts(asked, 3, epochs[n : n + 1], ids[n : n + 1])[0] for n in range(4)]
    assert together.tolist() == alone
    assert len(set(alone)) == 4


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


def test_a_shift_below_zero_is_refused() -> None:
    with pytest.raises(ValidationError):
        Augmentation(label_shift=-1.0)
