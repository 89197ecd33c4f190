"""Heads of several labels against the joint Gaussian written out, in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from metarec_ray.algorithms.base import Problem
from metarec_ray.algorithms.closed_form.bayesian import BayesianHead
from metarec_ray.algorithms.multi_output import MultiOutputHead
from metarec_ray.algorithms.problem import EncodedItems, make_problem
from metarec_ray.core.batch import NO_LABELS, Encoded, Params
from metarec_ray.core.parameters import values

P, L, EVENTS = 3, 2, 5
LEARNER = MultiOutputHead(loading=0.7)
NAN = float("nan")
# Dwell of three events is known, a click of four; of the third event the rating alone.
LABELS = torch.tensor(
    [[0.5, 1.0], [NAN, -1.0], [NAN, NAN], [1.5, 0.3], [-0.2, 0.8]], dtype=torch.float64
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


ITEMS, USER = random(9, P), random(P, seed=1)


def meta(learner: MultiOutputHead = LEARNER, labels: int = L) -> Params:
    """Parameters away from what they begin with, so that each of them is felt."""
    dense = {
        "head.out.weight": random(P, seed=2),
        "head.out.bias": torch.tensor(0.25).double(),
        "offset.scale": torch.tensor(1.0).double(),
    }
    generator = torch.Generator()
    own = learner.init(dense, generator) | learner.init_labels(dense, labels)
    moved = {
        name: value.double() + 0.3 * random(*value.shape, seed=10 + number)
        for number, (name, value) in enumerate(values(own).items())
    }
    return dense | moved


def events(labels: Tensor = LABELS, *, present: int = EVENTS) -> Encoded:
    at = torch.arange(EVENTS)
    return Encoded(
        index=at,
        item=ITEMS[at],
        offset=0.1 * at.double(),
        user=USER,
        context=torch.zeros(1, P, dtype=torch.float64),
        label=random(EVENTS, seed=3),
        age=(present - 1 - at).clamp(min=0).double(),
        mask=at < present,
        time=torch.zeros(EVENTS, dtype=torch.int64),
        place=at,
        labels=labels,
    )


def problem() -> Problem:
    at = torch.arange(3)
    items = EncodedItems(at, ITEMS[at], 0.1 * at.double(), at)
    nothing = torch.zeros(3, dtype=torch.float64)
    context = torch.zeros(1, P, dtype=torch.float64)
    return make_problem("explicit", items, nothing, USER, context)


def changes(params: Params, support: Encoded) -> tuple[Tensor, Tensor]:
    """How the head's weights and its constant change."""
    fast = LEARNER.adapt(problem(), params, support)
    weight = fast["head.out.weight"] - params["head.out.weight"]
    return weight, fast["head.out.bias"] - params["head.out.bias"]


def joint(params: Params, support: Encoded) -> Tensor:
    """The posterior mean [P + 1] of the rating's head by the covariance of what was observed.

    Every known (event, label) is an observation of a head whose covariance with each other head is
    written out; no part c or v_l is solved for.
    """
    total = 1 / (softplus(params["outputs.precision"]) + 1e-4)
    share = torch.sigmoid(params["labels.share"])
    loading = torch.cat([torch.ones(1, P + 1).double(), params["labels.loading"]])
    own = torch.cat(
        [((1 - share) * total).unsqueeze(0), 1 / (softplus(params["labels.precision"]) + 1e-4)]
    )
    common = share * total

    def covariance(one: int, other: int) -> Tensor:  # of two heads, diagonal
        return loading[one] * loading[other] * common + (one == other) * own[one]

    phi = torch.cat([support.item, torch.ones(EVENTS, 1).double()], 1)
    rating = support.item @ (params["head.out.weight"] + USER) + params["head.out.bias"]
    rating = rating + support.offset
    prior = torch.cat(
        [
            rating.unsqueeze(1),
            params["labels.of_rating"] * rating.unsqueeze(1) + phi @ params["labels.mean"].T,
        ],
        1,
    )
    value = torch.cat([support.label.unsqueeze(1), support.labels], 1) - prior
    noise = softplus(torch.cat([params["outputs.noise"].view(1), params["labels.noise"]]))
    decay = softplus(params["outputs.decay"])
    seen = [
        (n, label)
        for n in range(int(support.mask.sum()))
        for label in range(1 + L)
        if not value[n, label].isnan()
    ]
    gram = torch.zeros(len(seen), len(seen), dtype=torch.float64)
    cross = torch.zeros(P + 1, len(seen), dtype=torch.float64)
    for row, (n, label) in enumerate(seen):
        for column, (m, other) in enumerate(seen):
            gram[row, column] = (phi[n] * covariance(label, other) * phi[m]).sum()
        gram[row, row] += torch.exp(decay * support.age[n]) / noise[label]
        cross[:, row] = covariance(0, label) * phi[n]
    observed = torch.stack([value[n, label] for n, label in seen])
    return cross @ torch.linalg.solve(gram, observed)


@pytest.mark.parametrize("present", [EVENTS, 2])
def test_the_head_is_the_posterior_mean_of_the_joint_gaussian(present: int) -> None:
    params, support = meta(), events(present=present)
    weight, constant = changes(params, support)
    found = torch.cat([weight, constant.view(1)])
    torch.testing.assert_close(found, joint(params, support), rtol=1e-6, atol=1e-8)


def test_without_further_labels_it_is_the_bayesian_head() -> None:
    params, support = meta(labels=0), events(NO_LABELS)
    other = BayesianHead()
    theirs = {
        "bayes.precision": params["outputs.precision"][:-1],
        "bayes.constant": params["outputs.precision"][-1],
        "bayes.noise": params["outputs.noise"],
        "bayes.decay": params["outputs.decay"],
    }
    fast = other.adapt(problem(), params | theirs, support)
    weight, constant = changes(params, support)
    own = params["head.out.weight"], params["head.out.bias"]
    torch.testing.assert_close(weight, fast["head.out.weight"] - own[0])
    torch.testing.assert_close(constant, fast["head.out.bias"] - own[1])


def test_a_label_that_is_not_known_is_not_counted() -> None:
    params = meta()
    nothing = torch.full_like(LABELS, NAN)
    told, silent = changes(params, events())[0], changes(params, events(nothing))[0]
    assert not torch.allclose(told, silent)
    # Of a learner that knows labels, events without any are events whose labels are not known.
    torch.testing.assert_close(silent, changes(params, events(NO_LABELS))[0])
    some = LABELS.clone()
    some[3:] = 99.0  # of events that are padding
    padded = changes(params, events(some, present=3))[0]
    torch.testing.assert_close(padded, changes(params, events(present=3))[0])


def test_further_labels_of_what_is_scored_change_no_score() -> None:
    params = meta()
    fast = LEARNER.adapt(problem(), params, events())
    asked = [events(labels) for labels in (LABELS, LABELS + 5, NO_LABELS)]
    first, *others = [LEARNER.score(problem(), params, fast, one) for one in asked]
    assert all(torch.equal(first, other) for other in others)


def test_tasks_at_once_are_adapted_to_as_one_by_one() -> None:
    params = meta()
    sets = [events(LABELS + shift) for shift in range(3)]
    columns = zip(*sets, strict=True)
    batch = Encoded(*(torch.stack(column) for column in columns))
    fast = LEARNER.adapt_batch(problem(), params, batch)
    for task, one in enumerate(sets):
        alone = LEARNER.adapt(problem(), params, one)
        for name in ("head.out.weight", "head.out.bias"):
            torch.testing.assert_close(fast[name][task], alone[name])


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_further_labels_of_the_query_are_learned_by_their_weight(weight: float) -> None:
    learner = MultiOutputHead(auxiliary_weight=weight)
    params = meta(learner)

    def value(labels: Tensor) -> tuple[Tensor, Tensor]:
        query = events(labels)
        return learner.objective(
            problem(), params, events(), query, lambda score: score(query).square().mean()
        )

    silent, told = value(torch.full_like(LABELS, NAN)), value(LABELS)
    torch.testing.assert_close(silent[1], told[1])  # what is reported is of the rating alone
    torch.testing.assert_close(silent[0], silent[1])
    assert (told[0] > told[1]) == (weight > 0)
