"""The tracked prior of a linear head: its posterior, how sure it is, and what it follows."""

from itertools import pairwise

import polars as pl
import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.closed_form.covariance_tracking import (
    CovarianceTracking,
    in_order_of_start,
)
from metarec_ray.algorithms.closed_form.eb_ridge import EBRidge
from metarec_ray.algorithms.closed_form.variational import VariationalBayes
from metarec_ray.algorithms.problem import no_problem
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories
from metarec_ray.data.datasets.synthetic import generate
from metarec_ray.data.settings import Synthetic
from tests.unit.algorithms.plain_events import catalogue_of
from tests.unit.algorithms.rivals.small import ratings, support
from tests.unit.small_histories import histories_of

PROBLEM = no_problem("explicit")
BARE = VariationalBayes(factors=2, content={}, demographics={})
LEARNER = CovarianceTracking(backbone=BARE)
ITEMS = 12


@pytest.fixture(scope="module")
def meta() -> Params:
    found = LEARNER.fit(ratings())
    return {name: v.double() if v.is_floating_point() else v for name, v in found.items()}


def stds(learner: CovarianceTracking, meta: Params, given: Encoded) -> Tensor:
    fast = learner.adapt(PROBLEM, meta, given)
    return learner.score_std(PROBLEM, meta, fast, catalogue_of(len(meta["item"])))


def test_adapting_is_the_exact_posterior_and_stds_are_those_of_a_gaussian_process(meta: Params):
    """Ratings are jointly Gaussian, with covariance x P x' and the noise of each: float64."""
    index, label = [4, 9, 1], torch.tensor([5.0, 2.0, 4.0]).double()
    x = torch.cat([torch.ones(ITEMS, 1).double(), meta["item"][:, 1:]], 1)
    prior = meta["mean"] + meta["item"][:, 0] + x @ meta["user_map"][0]
    kernel = x @ torch.linalg.inv(meta["user_precision"]) @ x.T
    noise = meta["noise"] + meta["item_noise"]
    between = kernel[:, index]
    inverse = torch.linalg.inv(kernel[index][:, index] + torch.diag(noise[index]))
    mean = prior + between @ inverse @ (label - prior[index])
    variance = kernel.diagonal() - ((between @ inverse) * between).sum(1) + noise
    given = support(*zip(index, label.tolist(), strict=True), padding=2)
    given = given._replace(label=given.label.double())
    fast = LEARNER.adapt(PROBLEM, meta, given)
    found = LEARNER.score(PROBLEM, meta, fast, catalogue_of(ITEMS))
    torch.testing.assert_close(found, mean, atol=1e-9, rtol=0)
    torch.testing.assert_close(stds(LEARNER, meta, given).square(), variance, atol=1e-9, rtol=0)


def test_every_event_makes_every_prediction_surer_whatever_its_label_and_the_order(meta: Params):
    events = [(3, 1.0), (7, 5.0), (3, 2.0), (0, 4.0)]
    steps = [stds(LEARNER, meta, support(*events[:n], padding=4 - n)) for n in range(5)]
    assert all(bool((after < before).all()) for before, after in pairwise(steps))
    torch.testing.assert_close(stds(LEARNER, meta, support(*events[::-1])), steps[-1])
    other = [(item, 3.0) for item, _ in events]
    torch.testing.assert_close(stds(LEARNER, meta, support(*other)), steps[-1])


def test_users_come_in_the_order_of_their_first_events():
    lists = [[0, 1], [], [2], [1]]
    histories = histories_of(lists, n_items=3, time=[30, 90, 20, 30])
    assert in_order_of_start(histories).tolist() == [2, 0, 3]


def drifting(users: int = 400, items: int = 30) -> tuple[Histories, Tensor]:
    """Ratings of users whose bias rises by 3 from the first to the last, each of 8 random items.

    The second is the bias that the next user is expected to have.
    """
    generator = torch.Generator().manual_seed(0)
    quality = torch.randn(items, generator=generator)
    bias = torch.linspace(-1.5, 1.5, users) + 0.3 * torch.randn(users, generator=generator)
    met = torch.stack([torch.randperm(items, generator=generator)[:8] for _ in range(users)])
    noise = 0.3 * torch.randn(users, 8, generator=generator)
    label = 3 + bias.unsqueeze(1) + quality[met] + noise
    time = torch.arange(users).unsqueeze(1).expand(-1, 8)
    shuffled = torch.randperm(users, generator=generator)
    histories = histories_of(
        met[shuffled].tolist(),
        n_items=items,
        label=label[shuffled].flatten(),
        time=time[shuffled].flatten(),
    )
    return histories, 4.5 + quality


def test_with_forgetting_the_prior_follows_users_who_change_and_the_batch_estimate_does_not():
    histories, expected = drifting()
    nobody = support(padding=1)

    def error(learner: CovarianceTracking | EBRidge) -> float:
        meta = learner.fit(histories)
        fast = learner.adapt(PROBLEM, meta, nobody)
        found = learner.score(PROBLEM, meta, fast, catalogue_of(30))
        return (found - expected).square().mean().sqrt().item()

    tracking = LEARNER.model_copy(update={"forgetting": 0.95, "block": 4})
    assert error(tracking) < 0.3
    assert error(EBRidge(factors=2)) > 1.2  # the bias of an average user of the past
    assert error(LEARNER) > 1.2


def test_without_forgetting_it_predicts_what_empirical_bayes_predicts():
    tracked, batch = LEARNER.fit(ratings(users=200)), EBRidge(factors=2).fit(ratings(users=200))
    given = support((4, 5.0), (9, 2.0))
    everything = catalogue_of(ITEMS)
    found = LEARNER.score(PROBLEM, tracked, LEARNER.adapt(PROBLEM, tracked, given), everything)
    expected = BARE.score(PROBLEM, batch, BARE.adapt(PROBLEM, batch, given), everything)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


def synthetic() -> Histories:
    log = generate(Synthetic(users=600, items=120), "explicit", 0)
    events = log.events.sort("user", "time", maintain_order=True)
    lists = events.group_by("user", maintain_order=True).agg(pl.col("item") - 1)["item"].to_list()
    label, time = events["label"].to_torch().float(), events["time"].to_torch()
    return histories_of(lists, n_items=120, label=label, time=time)


def test_nine_of_ten_ratings_of_new_users_fall_into_intervals_of_nine_tenths():
    histories = synthetic()
    start = in_order_of_start(histories)
    cut = 4 * len(start) // 5
    learner = CovarianceTracking(backbone=VariationalBayes(factors=8))
    meta = learner.fit(histories.take(start[:cut]))
    inside: dict[int, list[Tensor]] = {0: [], 3: [], 8: []}
    new = histories.take(start[cut:])
    for first, end in zip(new.offsets[:-1].tolist(), new.offsets[1:].tolist(), strict=True):
        item, label = new.item[first:end], new.label[first:end]
        for k, found in inside.items():
            given = support(*zip(item[:k].tolist(), label[:k].tolist(), strict=True), padding=1)
            fast = learner.adapt(PROBLEM, meta, given)
            asked = catalogue_of(120)
            error = learner.score(PROBLEM, meta, fast, asked)[item[k:]] - label[k:]
            std = learner.score_std(PROBLEM, meta, fast, asked)[item[k:]]
            found.append(error.abs() <= 1.644854 * std)
    for found in inside.values():
        assert 0.85 < torch.cat(found).float().mean().item() < 0.95
