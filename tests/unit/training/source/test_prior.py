import math

import pytest
import torch

from metarec_ray.core.batch import NO_CHANGES
from metarec_ray.core.histories import Histories
from metarec_ray.data.settings import Feedback
from metarec_ray.models.towers import Towers
from metarec_ray.training.source.prior import (
    DAY,
    OUTSIDE,
    ItemStatistics,
    item_buffers,
    reference_sample,
)
from tests.unit.small_histories import histories_of

TRAINED = torch.tensor([True, True, True, False])


def table(histories: list[list[int]], labels: list[float], starts: list[int]) -> Histories:
    time = [start for start, n in zip(starts, map(len, histories), strict=True) for _ in range(n)]
    return histories_of(histories, n_items=len(TRAINED), label=labels, time=time)


def buffers(
    events: Histories, feedback: Feedback, model: Towers | None = None, *, reference: int = 8
) -> dict[str, torch.Tensor]:
    statistics = ItemStatistics(events, TRAINED, model or Towers(), feedback, cutoff=10 * DAY)
    return item_buffers(statistics, TRAINED, reference=reference, seed=0)


LOG = table([[0, 1, 0], [], [2, 0]], [5.0, 1.0, 3.0, 4.0, 4.0], [10 * DAY, 3 * DAY, 8 * DAY])


def test_implicit_offsets_are_log_shares_centred_on_trained_items() -> None:
    found = buffers(LOG, "implicit")["offset"]
    shares = [(count + 0.3) / (5 + 0.3 * 4) for count in (3, 1, 1, 0)]
    centre = sum(math.log(share) for share in shares[:3]) / 3
    torch.testing.assert_close(found, torch.tensor([math.log(s) - centre for s in shares]))


def test_explicit_offsets_are_means_shrunk_towards_the_mean() -> None:
    found = buffers(LOG, "explicit")["offset"]
    mean = (5 + 1 + 3 + 4 + 4) / 5
    expected = [(5 + 3 + 4 + 5 * mean) / (3 + 5), (1 + 5 * mean) / 6, (4 + 5 * mean) / 6, mean]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_binary_offsets_are_shrunk_log_odds() -> None:
    clicks = LOG._replace(label=torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0]))
    found = buffers(clicks, "binary")["offset"]
    mean = 3 / 5
    shares = [(3 + 5 * mean) / (3 + 5), (0 + 5 * mean) / 6, (0 + 5 * mean) / 6, mean]
    torch.testing.assert_close(found, torch.tensor([math.log(p / (1 - p)) for p in shares]))


def test_entities_that_began_earlier_count_less() -> None:
    found = buffers(LOG, "implicit", Towers(prior_days=2.0))["offset"]
    late = math.exp(-(10 - 8) / 2)
    counts = [1 + 1 + late, 1.0, late, 0.0]
    shares = [(count + 0.3) / (sum(counts) + 0.3 * 4) for count in counts]
    centre = sum(math.log(share) for share in shares[:3]) / 3
    torch.testing.assert_close(found, torch.tensor([math.log(s) - centre for s in shares]))


def test_events_outside_the_asked_positions_hardly_count() -> None:
    found = buffers(LOG, "explicit", Towers(prior_positions=(1, 2)))["offset"]
    low = OUTSIDE
    mean = (1 + 4 + low * (5 + 3 + 4)) / (2 + 3 * low)
    expected = [
        (4 + low * (5 + 3) + 5 * mean) / (1 + 2 * low + 5),
        (1 + 5 * mean) / (1 + 5),
        (low * 4 + 5 * mean) / (low + 5),
        mean,
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("model", [Towers(), Towers(prior_days=2.0, prior_positions=(0, 3))])
def test_entities_without_events_have_finite_offsets(model: Towers) -> None:
    nothing = table([[], []], [], [0, 0])
    assert bool(torch.isfinite(buffers(nothing, "implicit", model)["offset"]).all())


@pytest.mark.parametrize("model", [Towers(), Towers(prior_days=2.0, prior_positions=(0, 1))])
@pytest.mark.parametrize("feedback", ["implicit", "explicit", "binary"])
def test_a_task_is_asked_with_the_offsets_of_all_other_entities(
    feedback: Feedback, model: Towers
) -> None:
    labels = [1.0, 0.0, 1.0, 0.0, 1.0, 1.0]
    log = table([[0, 1, 0], [], [2, 0], [1]], labels, [10 * DAY, 3 * DAY, 8 * DAY, 9 * DAY])
    whole = ItemStatistics(log, TRAINED, model, feedback, cutoff=10 * DAY)
    entities, begins = torch.tensor([2, 0, 0, 1]), torch.tensor([True, False, True, True])
    items = torch.tensor([0, 2, 3])  # of the lane
    changes = whole.without_own(entities, begins, items).dense(4, 3)
    for task, (entity, begin) in enumerate(zip(entities.tolist(), begins.tolist(), strict=True)):
        others = log.keep(log.entity() != entity)
        alone = ItemStatistics(others, TRAINED, model, feedback, cutoff=10 * DAY)
        expected, got = (
            (found.offset if begin else found.later)[items] for found in (alone, whole)
        )
        got = got + changes[task]
        if feedback == "implicit":  # only differences between items decide a choice
            expected, got = expected - expected.mean(), got - got.mean()
        else:  # an entity is asked about the labels of its own items alone
            met = torch.isin(items, log.take(torch.tensor([entity])).item)
            expected, got = expected[met], got[met]
        torch.testing.assert_close(got, expected)


def test_changes_are_found_for_events_as_for_all_items() -> None:
    whole = ItemStatistics(LOG, TRAINED, Towers(), "explicit", cutoff=None)
    everyone, begins = torch.arange(3), torch.ones(3, dtype=torch.bool)
    changes = whole.without_own(everyone, begins, torch.arange(4))
    position = torch.tensor([[0, 3], [1, 0], [2, 1]])
    assert torch.equal(changes.at(position, 4), changes.dense(3, 4).gather(1, position))
    assert torch.equal(NO_CHANGES.at(position, 4), torch.zeros(3, 2))


def test_a_small_catalogue_is_its_own_reference() -> None:
    found = buffers(LOG, "implicit", reference=3)
    assert found["reference.items"].tolist() == [0, 1, 2]
    assert found["reference.log_q"].tolist() == [0.0, 0.0, 0.0]
    assert float(found["catalogue_size"]) == 3


def test_the_reference_has_the_asked_size_and_only_trained_items() -> None:
    count, trained = torch.arange(500.0).double(), torch.arange(500) % 5 != 0
    for seed in range(5):
        items, log_q = reference_sample(count, trained, 60, seed)
        assert len(items) == len(log_q) == len(set(items.tolist())) == 60
        assert bool(trained[items].all())
        assert bool((log_q <= 0).all())


def test_inclusion_probabilities_weigh_the_sample_back_to_the_catalogue() -> None:
    count = torch.tensor([1000.0, 50, 20, 10, 5, 5, 2, 1, 0, 0]).double()
    value = torch.linspace(1, 2, 10).double()
    estimates = []
    for seed in range(2000):
        items, log_q = reference_sample(count, torch.ones(10, dtype=torch.bool), 4, seed)
        estimates.append(float((value[items] / log_q.exp()).sum()))
    # The Horvitz-Thompson estimate of a sum is unbiased.
    error = torch.tensor(estimates).std() / math.sqrt(len(estimates))
    assert abs(sum(estimates) / len(estimates) - float(value.sum())) < 4 * float(error)


def test_an_item_that_would_be_drawn_twice_is_certain() -> None:
    count = torch.tensor([1e9, 1, 1, 1, 1]).double()
    items, log_q = reference_sample(count, torch.ones(5, dtype=torch.bool), 3, 0)
    assert 0 in items.tolist()
    # The other four share the other two places evenly.
    torch.testing.assert_close(log_q.exp(), torch.tensor([1, 2 / 4, 2 / 4]).double())
