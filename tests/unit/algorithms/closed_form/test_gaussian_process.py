"""The Gaussian-process head against textbook formulas on a small world."""

import math

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.algorithms.base import Fitting
from metarec_ray.algorithms.closed_form.episodes import draw
from metarec_ray.algorithms.closed_form.gaussian_process import GaussianProcessHead
from metarec_ray.algorithms.closed_form.kernels import item_tables, kernels, token_fields
from metarec_ray.algorithms.closed_form.task_covariance import left_out
from metarec_ray.algorithms.closed_form.variational import VariationalBayes
from metarec_ray.algorithms.problem import no_problem
from metarec_ray.core.batch import Encoded, Features, FieldSpan, Params, SideInformation
from metarec_ray.core.histories import Histories
from tests.unit.small_histories import histories_of

PROBLEM = no_problem("explicit")
BACKBONE = VariationalBayes(factors=2, sweeps=6, content={})
HEAD = GaussianProcessHead(backbone=BACKBONE, episodes=120, steps=40)
USERS, ITEMS, DIRECTORS = 150, 40, 10
FIELDS = (
    FieldSpan("director", True, 1, DIRECTORS + 2),
    FieldSpan("year", False, 0, 1),
    FieldSpan("plot", False, 1, 3),
)


def content(generator: torch.Generator) -> SideInformation:
    """One or two directors, a year and a plot of each item; item 0 has no known director."""
    first = torch.arange(ITEMS) % DIRECTORS + 2
    second = torch.where(torch.arange(ITEMS) % 4 == 1, (first - 1) % DIRECTORS + 2, 0)
    tokens = torch.stack([first, second], 1)
    tokens[0] = torch.tensor([1, 0])
    known = (tokens > 0).float()
    weights = known / known.sum(1, keepdim=True).sqrt()
    dense = torch.randn(ITEMS, 3, generator=generator)
    return SideInformation(Features(tokens, weights, dense), FIELDS, DIRECTORS + 2)


def world() -> Histories:
    """A user's rating hangs on her own taste for the item's director, which factors cannot know."""
    generator = torch.Generator().manual_seed(0)
    taste = torch.randn(USERS, DIRECTORS, generator=generator)
    noise = 0.3 * torch.randn(USERS, ITEMS, generator=generator)
    label = 3 + taste[:, torch.arange(ITEMS) % DIRECTORS] + noise
    met = torch.rand(USERS, ITEMS, generator=generator) < 0.6
    items = [row.nonzero().flatten().tolist() for row in met]
    found = histories_of(items, n_items=ITEMS, label=label[met])
    return found._replace(items=content(generator))


@pytest.fixture(scope="module")
def meta() -> Params:
    return HEAD.fit(world())


def events(index: list[int], label: list[float], padding: int = 0) -> Encoded:
    n = len(index) + padding
    return Encoded(
        index=torch.tensor(index + [3] * padding, dtype=torch.int64),
        item=torch.zeros(n, 0),
        offset=torch.zeros(n),
        user=torch.zeros(0),
        context=torch.zeros(1, 0),
        label=torch.tensor(label + [7.0] * padding),
        age=(len(index) - 1 - torch.arange(n)).clamp(min=0).float(),
        mask=torch.arange(n) < len(index),
        time=torch.zeros(n, dtype=torch.int64),
        place=torch.tensor(index + [3] * padding, dtype=torch.int64),
    )


def predicted(head: GaussianProcessHead, meta: Params, given: Encoded) -> Tensor:
    everything = events(list(range(ITEMS)), [0.0] * ITEMS)
    return head.score(PROBLEM, meta, head.adapt(PROBLEM, meta, given), everything)


def test_predictions_are_those_of_a_textbook_gaussian_process(meta: Params):
    index, label = [4, 14, 9, 30], torch.tensor([5.0, 4.0, 1.0, 3.0])
    everything = torch.arange(ITEMS)
    x = torch.cat([torch.ones(ITEMS, 1), meta["item"][:, 1:]], 1)
    cov, weight = torch.linalg.inv(meta["user_precision"]), torch.exp(meta["theta"])
    others = kernels(meta, everything, everything)
    own = x @ cov @ x.T
    k = weight[0] * own + meta["noise"] * torch.einsum("g,gij->ij", weight[1:-1], others)
    mean = meta["mean"] + meta["item"][:, 0] + x @ meta["user_map"][0]
    noise = torch.diag(meta["noise"] + weight[-1] * meta["item_noise"][index])
    gain = k[:, index] @ torch.linalg.inv(k[index][:, index] + noise)
    exact = mean + gain @ (label - mean[index])
    assert torch.allclose(predicted(HEAD, meta, events(index, label.tolist())), exact, atol=1e-3)


def test_without_support_the_prediction_is_the_prior_mean(meta: Params):
    x = torch.cat([torch.ones(ITEMS, 1), meta["item"][:, 1:]], 1)
    prior = meta["mean"] + meta["item"][:, 0] + x @ meta["user_map"][0]
    assert torch.allclose(predicted(HEAD, meta, events([], [], padding=2)), prior, atol=1e-4)


def test_padding_and_batching_do_not_change_predictions(meta: Params):
    plain = predicted(HEAD, meta, events([4, 9], [5.0, 1.0]))
    padded = events([4, 9], [5.0, 1.0], padding=4)
    batch = Encoded(*(torch.stack([column, column]) for column in padded))
    found = vmap(lambda given: predicted(HEAD, meta, given))(batch)
    assert torch.allclose(found, plain.expand(2, -1), atol=1e-4)


@pytest.mark.parametrize("padding", [0, 3])
def test_events_beyond_the_newest_move_the_prior_only(meta: Params, padding: int):
    index, label = [4, 14, 9, 30, 22], [5.0, 4.0, 1.0, 3.0, 2.0]
    short = HEAD.model_copy(update={"events": 2})
    off = {**meta, "theta": torch.full_like(meta["theta"], -30.0)}
    off["theta"][[0, -1]] = 0.0
    # Without further kernels the process and the posterior are one model, however events are cut.
    given = events(index, label, padding)
    assert torch.allclose(predicted(short, off, given), predicted(HEAD, off, given), atol=1e-3)
    exact = BACKBONE.adapt(PROBLEM, meta, given)["user"]
    x = torch.cat([torch.ones(ITEMS, 1), meta["item"][:, 1:]], 1)
    expected = meta["mean"] + meta["item"][:, 0] + x @ exact
    assert torch.allclose(predicted(short, off, given), expected, atol=1e-3)
    # With them, what is older than the newest two no longer reaches the kernels.
    assert torch.equal(short.adapt(PROBLEM, meta, given)["index"], torch.tensor([30, 22]))


def test_left_out_errors_equal_leaving_each_event_out():
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(5, 5, generator=generator)
    covariance, residual = root @ root.T + torch.eye(5), torch.randn(5, generator=generator)
    for i in range(5):
        rest = [j for j in range(5) if j != i]
        gain = covariance[i, rest] @ torch.linalg.inv(covariance[rest][:, rest])
        found = left_out(covariance, residual)
        error = residual[i] - gain @ residual[rest]
        assert found.error[i].item() == pytest.approx(error.item(), abs=1e-4)
        variance = covariance[i, i] - gain @ covariance[rest, i]
        assert found.variance[i].item() == pytest.approx(variance.item(), abs=1e-4)


def test_training_finds_the_kernel_that_the_ratings_hang_on(meta: Params):
    assert token_fields(meta) == ["director"]
    kernel_weights = meta["theta"][1:-1]
    assert kernel_weights.argmax().item() == len(kernel_weights) - 1
    data = world()
    tasks = data.take(torch.arange(20))
    errors: dict[str, list[float]] = {"head": [], "backbone": []}
    for start, end in zip(tasks.offsets[:-1].tolist(), tasks.offsets[1:].tolist(), strict=True):
        item, label = tasks.item[start:end], tasks.label[start:end]
        given = events(item[:-5].tolist(), label[:-5].tolist())
        asked = events(item[-5:].tolist(), [0.0] * 5)
        for name, learner in (("head", HEAD), ("backbone", BACKBONE)):
            fast = learner.adapt(PROBLEM, meta, given)
            found = learner.score(PROBLEM, meta, fast, asked)
            errors[name] += (found - label[-5:]).square().tolist()
    assert sum(errors["head"]) < 0.6 * sum(errors["backbone"])


def test_the_same_seed_gives_the_same_head():
    head = HEAD.model_copy(update={"steps": 3, "hidden_items": 0.2})
    first, again = (head.fit(world(), Fitting(seed=2)) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_kernels_of_content_are_cosines_and_distances():
    data = world()
    assert data.items is not None
    tables = item_tables(BACKBONE.fit(data), data, 0)
    a, b = torch.tensor([1, 0]), torch.tensor([11, 2, 1])
    *_, near, far, plot, director = kernels(tables, a, b)
    bags = data.items.matrix()[:, 2 : DIRECTORS + 2]
    assert torch.allclose(director[0], bags[1] @ bags[b].T, atol=1e-6)
    assert director[1].tolist() == [0, 0, 0]
    year, plots = data.items.features.dense[:, 0], data.items.features.dense[:, 1:]
    distance = (year[1] - year[11]).item()
    assert near[0, 0].item() == pytest.approx(math.exp(-(distance**2) / (2 * 0.2**2)), abs=1e-5)
    assert far[0, 0].item() == pytest.approx(math.exp(-(distance**2) / (2 * 1.0**2)), abs=1e-5)
    cosine = torch.cosine_similarity(plots[1], plots[11], 0).item()
    assert plot[0, 0].item() == pytest.approx(max(cosine, 0) ** 2, abs=1e-5)


def test_co_rating_counts_the_entities_that_met_both_items():
    data = world()
    tables = item_tables(BACKBONE.fit(data), data, 0)
    entity = torch.arange(USERS).repeat_interleave(data.offsets.diff())
    met = torch.zeros(USERS, ITEMS).index_put_((entity, data.item), torch.ones(len(entity)))
    count = met.sum(0) + 10
    exact = met.T @ met / torch.outer(count, count).sqrt()
    vectors = tables["linear.co_rated"]  # 40 items have all their directions among the leading 64
    assert torch.allclose(vectors @ vectors.T, exact, atol=1e-3)


def test_episodes_hold_distinct_events_of_one_entity_and_no_more_than_asked():
    data = world()
    histories = data._replace(
        label=torch.arange(USERS).repeat_interleave(data.offsets.diff()).float()
    )
    drawn = draw(histories, torch.Generator().manual_seed(0), episodes=50, events=12)
    assert sum(len(batch.index) for batch in drawn) == 50
    for batch in drawn:
        for index, label, mask in zip(batch.index, batch.label, batch.mask, strict=True):
            assert label[mask].unique().numel() == 1
            assert index[mask].unique().numel() == mask.sum() <= 12
            entity = int(label[0])
            own = data.item[data.offsets[entity] : data.offsets[entity + 1]]
            assert set(index[mask].tolist()) <= set(own.tolist())
