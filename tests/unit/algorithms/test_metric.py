"""Metric learners against arithmetic written out on items of two dimensions."""

import math

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.base import Problem
from metarec_ray.algorithms.metric import (
    DECAY,
    MatchingNetwork,
    PrototypeNetwork,
    RelationNetwork,
)
from metarec_ray.algorithms.problem import EncodedItems, make_problem
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.parameters import values
from metarec_ray.models.head import head_score, shift_user

ITEMS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, -1.0]], dtype=torch.float64)
USER = torch.tensor([0.5, -0.25], dtype=torch.float64)
HIDDEN = {"head.0.item": (2, 3), "head.0.user": (2, 3), "head.0.bias": (3,)}
LEARNERS = [PrototypeNetwork(), MatchingNetwork(), RelationNetwork()]
FEEDBACK = ["explicit", "binary", "implicit"]


def events(
    item: list[int], label: list[float] | None = None, *, present: int | None = None
) -> Encoded:
    n = len(item)
    at = torch.tensor(item)
    present = n if present is None else present
    return Encoded(
        index=at,
        item=ITEMS[at],
        offset=0.1 * at.double(),
        user=USER,
        context=torch.zeros(1, 2, dtype=torch.float64),
        label=torch.tensor(label or [0.0] * n, dtype=torch.float64),
        age=torch.arange(n - 1, -1, -1).double(),
        mask=torch.arange(n) < present,
        time=torch.zeros(n, dtype=torch.int64),
        place=at,
    )


def parameters(learner, hidden: bool = False) -> Params:
    drawn = torch.Generator().manual_seed(4)
    sizes = (HIDDEN if hidden else {}) | {"head.out.weight": (5 if hidden else 2,)}
    params = {n: torch.randn(s, generator=drawn, dtype=torch.float64) for n, s in sizes.items()}
    own = values(learner.init({"head.out.weight": torch.zeros(2)}, drawn))
    fixed = {"head.out.bias": torch.tensor(0.25), "offset.scale": torch.tensor(2.0)}
    return params | {n: value.double() for n, value in (fixed | own).items()}


def problem(feedback) -> Problem:
    every = EncodedItems(
        torch.arange(4),
        ITEMS,
        torch.zeros(4, dtype=torch.float64),
        torch.arange(len(torch.arange(4))),
    )
    log_q = torch.zeros(4, dtype=torch.float64)
    context = torch.zeros(1, 2, dtype=torch.float64)
    return make_problem(feedback, every, log_q, USER, context)


def scores(learner, feedback, support: Encoded, meta: Params) -> Tensor:
    asked = problem(feedback)
    fast = learner.adapt(asked, meta, support)
    return learner.score(asked, meta, fast, events([0, 1, 2, 3]))


@pytest.mark.parametrize("hidden", [False, True])
def test_parameters_may_carry_a_longer_user(hidden: bool) -> None:
    meta, step = parameters(PrototypeNetwork(), hidden), torch.tensor([0.7, -2.0]).double()
    asked = events([0, 1, 2, 3])
    torch.testing.assert_close(
        head_score(shift_user(meta, step), asked),
        head_score(meta, asked._replace(user=USER + step)),
    )


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda one: one.name)
@pytest.mark.parametrize("feedback", FEEDBACK)
def test_without_support_the_prior_scores(learner, feedback) -> None:
    meta = parameters(learner)
    found = scores(learner, feedback, events([1, 2], [5.0, 1.0], present=0), meta)
    torch.testing.assert_close(found, head_score(meta, events([0, 1, 2, 3])), rtol=1e-12, atol=0)


def test_a_prototype_is_the_shrunk_mean_of_residuals_times_items() -> None:
    learner = PrototypeNetwork(prior_events=4.0)
    meta, support = parameters(learner), events([1, 2], [5.0, 1.0])
    meta["prototype.map"] = torch.tensor([[0.0, 1.0], [2.0, 0.0]]).double()
    older = math.exp(-DECAY)  # of the first event; the second is the newest
    error = support.label - head_score(meta, support)
    share = torch.tensor([older, 1.0]).double() / (older + 1 + 4)
    told = share * error
    x, y = float(told @ ITEMS[[1, 2], 0]), float(told @ ITEMS[[1, 2], 1])
    # A row vector times the map: (x, y) M = (2 y, x).
    moved = events([0, 1, 2, 3])._replace(user=USER + torch.tensor([2 * y, x]).double())
    expected = head_score(meta, moved) + told.sum()
    torch.testing.assert_close(
        scores(learner, "explicit", support, meta), expected, rtol=1e-6, atol=0
    )


def test_positives_pull_the_prototype_towards_their_items() -> None:
    meta = parameters(PrototypeNetwork())
    before = head_score(meta, events([0, 1, 2, 3]))
    gain = scores(PrototypeNetwork(), "implicit", events([1]), meta) - before
    # One event against prior_events 5: 1 / 6 of the item, and of the constant.
    expected = (ITEMS @ ITEMS[1] + 1) / 6
    torch.testing.assert_close(gain, expected, rtol=1e-6, atol=1e-12)


def test_matching_weighs_residuals_by_the_softmax_of_cosines() -> None:
    learner = MatchingNetwork(temperature=0.5)
    meta, support = parameters(learner), events([1, 2], [5.0, 1.0])
    error = support.label - head_score(meta, support)
    candidates = events([0, 1, 2, 3])
    expected = []
    for row, item in enumerate(ITEMS):
        kernel = [
            math.exp(float(item @ ITEMS[j] / item.norm() / ITEMS[j].norm()) / 0.5 - DECAY * age)
            for j, age in ((1, 1), (2, 0))
        ]
        told = sum(k * float(e) for k, e in zip(kernel, error, strict=True))
        expected.append(float(head_score(meta, candidates)[row]) + told / (1 + sum(kernel)))
    found = scores(learner, "explicit", support, meta)
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_a_click_counts_by_its_surprise() -> None:
    learner = MatchingNetwork()
    meta = parameters(learner)
    up = scores(learner, "binary", events([1], [1.0]), meta)
    down = scores(learner, "binary", events([1], [0.0]), meta)
    # The residuals 1 - p and -p differ by 1, which the attention on the event takes.
    cosine = ITEMS @ ITEMS[1] / ITEMS.norm(dim=1) / ITEMS[1].norm()
    kernel = torch.exp(cosine / 0.5)
    torch.testing.assert_close(up - down, kernel / (1 + kernel), rtol=1e-6, atol=0)


def test_an_item_without_features_matches_nothing_and_has_a_gradient() -> None:
    learner, support = MatchingNetwork(), events([1, 2], [5.0, 1.0])
    meta = parameters(learner)
    key = meta["matching.map"].clone().requires_grad_()
    blank = support._replace(item=torch.zeros_like(support.item))
    scores(learner, "explicit", blank, meta | {"matching.map": key}).sum().backward()
    assert key.grad is not None
    assert bool(torch.isfinite(key.grad).all())


def compared(learner: RelationNetwork) -> Params:
    """Return parameters whose last layer counts: at zero no comparison would."""
    last = torch.linspace(-1, 1.5, learner.width).double()
    bias = torch.linspace(0.5, -0.2, learner.width).double()
    own = {"relation.out.weight": last, "relation.bias": bias}
    return parameters(learner) | own | {"relation.out.bias": torch.tensor(0.3).double()}


@pytest.mark.parametrize("feedback", FEEDBACK)
def test_a_relation_network_begins_at_the_prior(feedback) -> None:
    meta = parameters(RelationNetwork())
    found = scores(RelationNetwork(), feedback, events([1, 2], [1.0, 0.0]), meta)
    torch.testing.assert_close(found, head_score(meta, events([0, 1, 2, 3])), rtol=0, atol=0)


def test_a_relation_is_the_shrunk_mean_of_what_a_hidden_layer_says_of_each_pair() -> None:
    learner = RelationNetwork(width=3, prior_events=4.0)
    meta, support = compared(learner), events([1, 2], [5.0, 1.0])
    error = support.label - head_score(meta, support)
    of = {name.removeprefix("relation."): value for name, value in meta.items()}
    older = math.exp(-DECAY)  # of the first event; the second is the newest
    expected = head_score(meta, events([0, 1, 2, 3])).tolist()
    for row, c in enumerate(ITEMS):
        for x, weight, told in zip(ITEMS[[1, 2]], (older, 1), error, strict=True):
            unit = of["bias"] + told * of["residual.weight"]
            unit = unit + c @ of["candidate.weight"] + x @ of["event.weight"]
            unit = unit + (c * x) @ of["product.weight"]
            answer = of["out.bias"] + sum(
                float(v) * max(float(value), 0)
                for v, value in zip(of["out.weight"], unit, strict=True)
            )
            expected[row] += weight / (older + 1 + 4) * float(answer)
    found = scores(learner, "explicit", support, meta)
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_a_relation_network_compares_with_the_newest_events_whatever_the_padding() -> None:
    learner = RelationNetwork(width=3, max_events=2)
    meta = compared(learner)
    found = scores(learner, "explicit", events([1, 2], [5.0, 1.0]), meta)
    longer = scores(learner, "explicit", events([3, 1, 2], [9.0, 5.0, 1.0]), meta)
    torch.testing.assert_close(longer, found, rtol=1e-12, atol=0)
    padded = events([3, 1, 2, 0, 0], [9.0, 5.0, 1.0, 7.0, 7.0], present=3)
    padded = padded._replace(age=torch.tensor([2.0, 1, 0, 0, 0]).double())
    torch.testing.assert_close(scores(learner, "explicit", padded, meta), found, rtol=1e-12, atol=0)


def test_a_relation_network_sees_order_by_age_alone() -> None:
    learner = RelationNetwork(width=3)
    meta, support = compared(learner), events([1, 2, 3], [5.0, 1.0, 2.0])
    found = scores(learner, "explicit", support, meta)
    other = support.at(torch.tensor([2, 0, 1]))
    torch.testing.assert_close(
        scores(learner, "explicit", other, meta), found, rtol=1e-12, atol=1e-12
    )
    renewed = scores(learner, "explicit", other._replace(age=support.age), meta)
    assert float((renewed - found).abs().max()) > 1e-3
