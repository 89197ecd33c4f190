"""Meta-gradients derived by hand on a model of one number.

The score of every item is w = inner + outer; the support loss is 1/2 (w - c)^2 with c the mean
label of the set, so that one inner step of rate r maps w - c to (1 - r)(w - c). The query loss is
1/2 (w' - y)^2.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.func import grad

from metarec_ray.algorithms.base import MetaLearner, Problem
from metarec_ray.algorithms.closed_form.bayesian import BayesianHead
from metarec_ray.algorithms.gradient.maml import Anil, Fomaml, Maml, MetaSgd, Reptile
from metarec_ray.algorithms.gradient.meta_embedding import MetaEmbedding
from metarec_ray.algorithms.losses.labels import SquaredError
from metarec_ray.algorithms.problem import (
    EncodedItems,
    Support,
    encode_support,
    make_problem,
    unencoded,
)
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.losses import masked_mean, squared_error
from metarec_ray.core.parameters import values
from metarec_ray.models.head import head_score

RATE, START, SUPPORT, QUERY = 0.1, 2.0, [4.0, 6.0], [1.0, 2.0, 3.0]
C, Y = (4 + 6) / 2, (1 + 2 + 3) / 3
BODY, LAST = "head.0.item", "head.out.bias"


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def events(labels: list[float], *, shared_context: bool = True) -> Encoded:
    n = len(labels)
    zeros = torch.zeros(n, dtype=torch.float64)
    context = torch.zeros(1 if shared_context else n, 1, dtype=torch.float64)
    label, mask = torch.tensor(labels, dtype=torch.float64), torch.ones(n, dtype=torch.bool)
    vector, time = zeros.unsqueeze(1), torch.zeros(n, dtype=torch.int64)
    return Encoded(
        torch.arange(n),
        vector,
        zeros,
        vector[0],
        context,
        label,
        zeros,
        mask,
        time,
        place=torch.arange(n),
    )


def predict(params: Params, asked: Encoded) -> Tensor:
    # The context enters as a zero, so that a set whose parts do not fit together is an error.
    nothing = (asked.item * asked.context).sum(-1)
    return params[BODY] + params[LAST] + nothing


def support_loss(params: Params, support: Encoded) -> Tensor:
    centre = masked_mean(support.label, support.mask)
    return 0.5 * (masked_mean(predict(params, support), support.mask) - centre) ** 2


def query_loss(score) -> Tensor:
    return 0.5 * (score(events(QUERY)).mean() - Y) ** 2


PROBLEM = Problem("explicit", SquaredError(), predict, predict, support_loss, None, torch.zeros(0))


def meta_gradient(learner: MetaLearner, **changed: Tensor) -> tuple[Params, float]:
    start = {BODY: number(0.5), LAST: number(START - 0.5)}
    meta = start | values(learner.init(start, torch.Generator())) | changed

    def objective(meta: Params) -> tuple[Tensor, Tensor]:
        return learner.objective(PROBLEM, meta, events(SUPPORT), events(QUERY), query_loss)

    gradient, loss = grad(objective, has_aux=True)(meta)
    return gradient, float(loss)


def test_maml_differentiates_through_its_step() -> None:
    # Both weights adapt, so w moves by 2 r (w - c) and dw'/d(either) = 1 - 2 r.
    gradient, loss = meta_gradient(Maml(prior_events=0.0, inner_lr=RATE, inner_steps=1))
    adapted = START - 2 * RATE * (START - C)
    expected = (adapted - Y) * (1 - 2 * RATE)
    assert float(gradient[BODY]) == pytest.approx(expected, rel=1e-12)
    assert float(gradient[LAST]) == pytest.approx(expected, rel=1e-12)
    assert loss == pytest.approx(0.5 * (adapted - Y) ** 2, rel=1e-12)


def test_maml_multiplies_the_curvature_of_all_steps() -> None:
    gradient, _ = meta_gradient(Maml(prior_events=0.0, inner_lr=RATE, inner_steps=3))
    shrink = (1 - 2 * RATE) ** 3
    adapted = C + shrink * (START - C)
    assert float(gradient[LAST]) == pytest.approx((adapted - Y) * shrink, rel=1e-12)


def test_fomaml_takes_the_query_gradient_at_the_adapted_weights() -> None:
    gradient, loss = meta_gradient(Fomaml(prior_events=0.0, inner_lr=RATE, inner_steps=3))
    adapted = C + (1 - 2 * RATE) ** 3 * (START - C)
    assert float(gradient[BODY]) == pytest.approx(adapted - Y, rel=1e-12)
    assert float(gradient[LAST]) == pytest.approx(adapted - Y, rel=1e-12)
    assert loss == pytest.approx(0.5 * (adapted - Y) ** 2, rel=1e-12)


def test_anil_adapts_the_last_layer_alone() -> None:
    learner = Anil(prior_events=0.0, inner_lr=RATE, inner_steps=2)
    gradient, _ = meta_gradient(learner)
    adapted = C + (1 - RATE) ** 2 * (START - C)
    expected = (adapted - Y) * (1 - RATE) ** 2
    assert float(gradient[LAST]) == pytest.approx(expected, rel=1e-12)
    # The body is in the support loss too: its derivative has the same form.
    assert float(gradient[BODY]) == pytest.approx(expected, rel=1e-12)
    meta = {BODY: number(0.5), LAST: number(1.5)}
    fast = learner.adapt(PROBLEM, meta, events(SUPPORT))
    assert float(fast[BODY]) == 0.5
    assert float(fast[LAST]) == pytest.approx(adapted - 0.5, rel=1e-12)


def test_few_events_move_the_weights_less() -> None:
    learner = Maml(inner_lr=RATE, inner_steps=1, prior_events=6.0)
    meta = {BODY: number(0.5), LAST: number(START - 0.5)}
    fast = learner.adapt(PROBLEM, meta, events(SUPPORT))
    # Two events against prior_events 6: a quarter of the step, for each of the two weights.
    step = 2 / (2 + 6) * RATE * (START - C)
    assert float(fast[LAST]) == pytest.approx(START - 0.5 - step, rel=1e-12)


def test_an_event_counts_half_after_the_half_life() -> None:
    learner = Maml(prior_events=0.0, inner_lr=RATE, inner_steps=1, half_life=2.0)
    meta = {BODY: number(0.5), LAST: number(START - 0.5)}
    support = events(SUPPORT)._replace(age=torch.tensor([4.0, 0.0], dtype=torch.float64))
    fast = learner.adapt(PROBLEM, meta, support)
    # The first event is two half-lives old.
    centre = (0.25 * 4 + 1 * 6) / 1.25
    expected = START - 0.5 - RATE * (START - centre)
    assert float(fast[LAST]) == pytest.approx(expected, rel=1e-12)


def test_meta_sgd_learns_its_rates() -> None:
    rates = {f"rates.{BODY}": number(0.2), f"rates.{LAST}": number(0.05)}
    gradient, _ = meta_gradient(MetaSgd(prior_events=0.0, inner_lr=RATE, inner_steps=1), **rates)
    slope = START - C
    adapted = START - (0.2 + 0.05) * slope
    assert float(gradient[LAST]) == pytest.approx((adapted - Y) * (1 - 0.25), rel=1e-12)
    for name in rates:
        assert float(gradient[name]) == pytest.approx((adapted - Y) * -slope, rel=1e-12)


def test_meta_sgd_starts_at_the_given_rate_for_what_adapts() -> None:
    params = {BODY: torch.zeros(2, 3), LAST: torch.zeros(()), "item.tokens": torch.zeros(4)}
    rates = values(MetaSgd(prior_events=0.0, inner_lr=0.3).init(params, torch.Generator()))
    assert {name: tuple(rate.shape) for name, rate in rates.items()} == {
        f"rates.{BODY}": (2, 3),
        f"rates.{LAST}": (),
    }
    assert all(bool((rate == torch.tensor(0.3)).all()) for rate in rates.values())


def test_reptile_moves_towards_the_weights_of_plain_training_on_the_task() -> None:
    gradient, loss = meta_gradient(Reptile(prior_events=0.0, inner_lr=RATE, inner_steps=3))
    # Support and query together have the mean label (4 + 6 + 1 + 2 + 3) / 5.
    centre, shrink = (sum(SUPPORT) + sum(QUERY)) / 5, (1 - 2 * RATE) ** 3
    phi = centre + shrink * (START - centre)
    # Each of the two weights takes half of the way: theta - phi.
    assert float(gradient[BODY]) == pytest.approx((START - phi) / 2, rel=1e-12)
    assert float(gradient[LAST]) == pytest.approx((START - phi) / 2, rel=1e-12)
    # What is reported is the query loss after the support alone, as for every learner.
    judged = C + shrink * (START - C)
    assert loss == pytest.approx(0.5 * (judged - Y) ** 2, rel=1e-12)


@pytest.mark.parametrize("shared", [True, False])
def test_reptile_trains_on_sets_with_and_without_context(shared: bool) -> None:
    meta = {BODY: number(0.5), LAST: number(1.5)}
    support = events(SUPPORT, shared_context=shared)
    query = events(QUERY, shared_context=shared)
    learner = Reptile(prior_events=0.0, inner_lr=RATE, inner_steps=1)
    value, _ = learner.objective(PROBLEM, meta, support, query, query_loss)
    step = 2 * RATE * (START - 16 / 5)
    expected = 0.5 * 2 * (step / 2) ** 2 + 0.5 * (START - step - Y) ** 2
    assert float(value) == pytest.approx(expected, rel=1e-12)


def test_reptile_takes_the_query_for_what_came_after_the_support() -> None:
    learner = Reptile(prior_events=0.0, inner_lr=RATE, inner_steps=1, half_life=1.0)
    meta = {BODY: number(0.5), LAST: number(START - 0.5)}
    older = [torch.arange(n - 1, -1, -1).double() for n in (len(SUPPORT), len(QUERY))]
    support, query = events(SUPPORT)._replace(age=older[0]), events(QUERY)._replace(age=older[1])
    value, _ = learner.objective(PROBLEM, meta, support, query, query_loss)
    # Ages of the five events, oldest first: 4, 3, 2, 1, 0, each worth half of the next.
    weights = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]
    labels = [*SUPPORT, *QUERY]
    centre = sum(w * y for w, y in zip(weights, labels, strict=True)) / sum(weights)
    step = 2 * RATE * (START - centre)
    expected = 0.5 * 2 * (step / 2) ** 2 + 0.5 * (START - step - Y) ** 2
    assert float(value) == pytest.approx(expected, rel=1e-12)


def test_a_positive_of_the_reference_sample_competes_with_the_others_alone() -> None:
    items = EncodedItems(
        torch.arange(3),
        torch.eye(3).double(),
        torch.zeros(3).double(),
        torch.arange(len(torch.arange(3))),
    )
    log_q = torch.log(torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64))
    user, context = torch.zeros(3).double(), torch.zeros(1, 3).double()
    zero = {"head.out.weight": user, "head.out.bias": number(0), "offset.scale": number(0)}
    mask, time = torch.tensor([True, True]), torch.tensor([0, 1])
    for sample, logs, expected in (
        # All three items: -log 1/3 at zero weights.
        ([0, 1, 2], torch.zeros(3).double(), [math.log(3), math.log(3)]),
        # Items 0 (twice) and 1, which stand for 1 / q items each: 2 + 2 of item 0, 4 of item 1.
        ([0, 0, 1], log_q, [math.log(1 + 4), math.log(1 + 2 + 4)]),
    ):
        asked = make_problem("implicit", items.at(torch.tensor(sample)), logs, user, context)
        chosen = Support(items.at(torch.tensor([0, 1])), context, mask.double(), mask, time)
        found = asked.support_loss(zero, encode_support(chosen, user))
        assert float(found) == pytest.approx(sum(expected) / 2, rel=1e-12)


@pytest.mark.parametrize("precision", [1e-6, 1.0, 5000.0])
def test_the_bayesian_head_starts_at_any_precision(precision: float) -> None:
    learner = BayesianHead(prior_precision=precision, noise_precision=precision)
    params = values(learner.init({"head.out.weight": torch.zeros(2)}, torch.Generator()))
    for name in ("bayes.precision", "bayes.noise"):
        found = torch.nn.functional.softplus(params[name])
        torch.testing.assert_close(found, torch.full_like(found, precision), rtol=1e-4, atol=0)


# A head of one hidden layer on two-dimensional items, in float64: what first-order learners are
# held to by finite differences. The encoders stand for themselves as two tables.
SIZES = {
    "items": (5, 2),
    "user": (2,),
    "head.0.item": (2, 3),
    "head.0.user": (2, 3),
    "head.0.bias": (3,),
    "head.out.weight": (5,),
    "head.out.bias": (),
    "offset.scale": (),
}


def small(seed: int = 0) -> Params:
    drawn = torch.Generator().manual_seed(seed)
    return {n: torch.randn(s, generator=drawn, dtype=torch.float64) for n, s in SIZES.items()}


def rated(params: Params, item: list[int], label: list[float]) -> Encoded:
    at, n = torch.tensor(item), len(item)
    zeros = torch.zeros(n, dtype=torch.float64)
    return Encoded(
        index=at,
        item=params["items"][at],
        offset=at.double() / 5,
        user=params["user"],
        context=torch.zeros(1, 2, dtype=torch.float64),
        label=torch.tensor(label, dtype=torch.float64),
        age=zeros,
        mask=torch.ones(n, dtype=torch.bool),
        time=at,
        place=at,
    )


RATINGS = make_problem("explicit", unencoded(0), torch.zeros(0), torch.zeros(2), torch.zeros(1, 2))


def support_of(params: Params) -> Encoded:
    return rated(params, [0, 1, 2], [4.0, 1.0, 5.0])


def judged(slow: Params, fast: Params) -> Tensor:
    """Return the query loss of the head `fast` over the encoders `slow`."""
    query = rated(slow, [3, 4], [2.0, 4.0])
    return squared_error(head_score(fast, query), query.label, query.mask)


def assert_gradient_is(learner: MetaLearner, definition) -> None:
    """Compare the gradient of the objective with differences of `definition(params)`."""
    params = small()
    gradient = grad(
        lambda p: learner.objective(
            RATINGS, p, support_of(p), support_of(p), lambda score: judged_by(score, p)
        )[0]
    )(params)
    for name, value in params.items():
        direction, step = torch.linspace(-1, 1, value.numel()).double().view_as(value) + 0.3, 1e-6
        up = definition(params | {name: value + step * direction})
        down = definition(params | {name: value - step * direction})
        expected = float(up - down) / (2 * step)
        found = float((gradient[name] * direction).sum())
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-8), name


def judged_by(score, params: Params) -> Tensor:
    query = rated(params, [3, 4], [2.0, 4.0])
    return squared_error(score(query), query.label, query.mask)


def test_fomaml_is_the_slope_of_a_query_loss_whose_steps_stand_still() -> None:
    learner, base = Fomaml(prior_events=0.0, inner_lr=0.05, inner_steps=3), small()
    adapted = learner.adapt(RATINGS, base, support_of(base))
    moved = {n: adapted[n] - base[n] for n in base if n.startswith("head.")}
    assert_gradient_is(
        learner, lambda p: judged(p, p | {n: p[n] + step for n, step in moved.items()})
    )


def test_reptile_is_the_slope_of_the_distance_to_a_goal_that_stands_still() -> None:
    learner, base = Reptile(prior_events=0.0, inner_lr=0.05, inner_steps=3), small()
    # The query of the objective above is the support again.
    both = rated(base, [0, 1, 2, 0, 1, 2], [4.0, 1.0, 5.0, 4.0, 1.0, 5.0])
    adapted = learner.adapt(RATINGS, base, both)
    goal = {n: adapted[n] for n in base if n.startswith("head.")}

    def definition(params: Params) -> Tensor:
        way = torch.stack([((params[n] - goal[n]) ** 2).sum() for n in goal]).sum()
        return way / 2 + judged(params, params | goal)

    assert_gradient_is(learner, definition)


@pytest.mark.parametrize(
    "learner", [Maml(prior_events=0.0, inner_lr=0.05), Anil(prior_events=0.0, inner_lr=0.05)]
)
def test_second_order_learners_are_slopes_of_the_query_loss_after_adapting(learner) -> None:
    assert_gradient_is(learner, lambda p: judged(p, learner.adapt(RATINGS, p, support_of(p))))


def embedding(learner: MetaEmbedding) -> Params:
    params = {n: small()[n] for n in SIZES if "head.0" not in n}
    params["head.out.weight"] = params["head.out.weight"][:2]
    generated = values(learner.init(params, torch.Generator().manual_seed(2)))
    out = {"generator.out.weight": torch.eye(2)}
    return params | {n: value.double() for n, value in (generated | out).items()}


def test_a_generated_embedding_is_warmed_up_by_a_step_on_the_first_events() -> None:
    learner = MetaEmbedding(inner_lr=0.1, inner_steps=1)
    meta = embedding(learner)
    support, query = support_of(meta), rated(meta, [3, 4], [2.0, 4.0])
    start = torch.tanh(meta["user"] @ meta["generator.0.weight"])

    def with_user(added: Tensor, asked: Encoded) -> Tensor:
        return head_score(meta, asked._replace(user=asked.user + added))

    error = with_user(start, support) - support.label
    warm = start - 0.1 * 2 / 3 * error @ support.item
    fast = learner.adapt(RATINGS, meta, support)
    torch.testing.assert_close(learner.score(RATINGS, meta, fast, query), with_user(warm, query))
    value, after = learner.objective(
        RATINGS,
        meta,
        support,
        query,
        lambda score: squared_error(score(query), query.label, query.mask),
    )
    expected = ((with_user(warm, query) - query.label) ** 2).mean()
    assert float(after) == pytest.approx(float(expected), rel=1e-12)
    cold = (error**2).mean()
    assert float(value) == pytest.approx(float(0.1 * cold + 0.9 * expected), rel=1e-12)


def test_before_training_a_generated_embedding_is_zero() -> None:
    fresh = values(MetaEmbedding().init({"head.out.weight": torch.zeros(3)}, torch.Generator()))
    assert not fresh["generator.out.weight"].any()
    assert fresh["generator.0.weight"].any()
