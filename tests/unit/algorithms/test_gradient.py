"""Meta-gradients derived by hand on a model of one number.

The score of every item is w = inner + outer; the support loss is 1/2 (w - c)^2 with c the mean
label of the set, so that one inner step of rate r maps w - c to (1 - r)(w - c). The query loss is
1/2 (w' - y)^2.
"""

import pytest
import torch
from torch import Tensor
from torch.func import grad

from metarec_ray.algorithms import Anil, BayesianHead, Fomaml, Maml, MetaSgd, Reptile
from metarec_ray.algorithms.base import MetaLearner, Params, Problem
from metarec_ray.core.batch import Encoded
from metarec_ray.core.losses import masked_mean

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
    vector = zeros.unsqueeze(1)
    return Encoded(torch.arange(n), vector, zeros, vector[0], context, label, zeros, mask)


def predict(params: Params, asked: Encoded) -> Tensor:
    # The context enters as a zero, so that a set whose parts do not fit together is an error.
    nothing = (asked.item * asked.context).sum(-1)
    return params[BODY] + params[LAST] + nothing


def support_loss(params: Params, support: Encoded) -> Tensor:
    centre = masked_mean(support.label, support.mask)
    return 0.5 * (masked_mean(predict(params, support), support.mask) - centre) ** 2


def query_loss(score) -> Tensor:
    return 0.5 * (score(events(QUERY)).mean() - Y) ** 2


PROBLEM = Problem("explicit", predict, predict, support_loss, None, torch.zeros(0))


def meta_gradient(learner: MetaLearner, **changed: Tensor) -> tuple[Params, float]:
    start = {BODY: number(0.5), LAST: number(START - 0.5)}
    meta = start | learner.init(start) | changed

    def objective(meta: Params) -> tuple[Tensor, Tensor]:
        return learner.objective(PROBLEM, meta, events(SUPPORT), events(QUERY), query_loss)

    gradient, loss = grad(objective, has_aux=True)(meta)
    return gradient, float(loss)


def test_maml_differentiates_through_its_step() -> None:
    # Both weights adapt, so w moves by 2 r (w - c) and dw'/d(either) = 1 - 2 r.
    gradient, loss = meta_gradient(Maml(inner_lr=RATE, inner_steps=1))
    adapted = START - 2 * RATE * (START - C)
    expected = (adapted - Y) * (1 - 2 * RATE)
    assert float(gradient[BODY]) == pytest.approx(expected, rel=1e-12)
    assert float(gradient[LAST]) == pytest.approx(expected, rel=1e-12)
    assert loss == pytest.approx(0.5 * (adapted - Y) ** 2, rel=1e-12)


def test_maml_multiplies_the_curvature_of_all_steps() -> None:
    gradient, _ = meta_gradient(Maml(inner_lr=RATE, inner_steps=3))
    shrink = (1 - 2 * RATE) ** 3
    adapted = C + shrink * (START - C)
    assert float(gradient[LAST]) == pytest.approx((adapted - Y) * shrink, rel=1e-12)


def test_fomaml_takes_the_query_gradient_at_the_adapted_weights() -> None:
    gradient, loss = meta_gradient(Fomaml(inner_lr=RATE, inner_steps=3))
    adapted = C + (1 - 2 * RATE) ** 3 * (START - C)
    assert float(gradient[BODY]) == pytest.approx(adapted - Y, rel=1e-12)
    assert float(gradient[LAST]) == pytest.approx(adapted - Y, rel=1e-12)
    assert loss == pytest.approx(0.5 * (adapted - Y) ** 2, rel=1e-12)


def test_anil_adapts_the_last_layer_alone() -> None:
    learner = Anil(inner_lr=RATE, inner_steps=2)
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


def test_meta_sgd_learns_its_rates() -> None:
    rates = {f"rates.{BODY}": number(0.2), f"rates.{LAST}": number(0.05)}
    gradient, _ = meta_gradient(MetaSgd(inner_lr=RATE, inner_steps=1), **rates)
    slope = START - C
    adapted = START - (0.2 + 0.05) * slope
    assert float(gradient[LAST]) == pytest.approx((adapted - Y) * (1 - 0.25), rel=1e-12)
    for name in rates:
        assert float(gradient[name]) == pytest.approx((adapted - Y) * -slope, rel=1e-12)


def test_meta_sgd_starts_at_the_given_rate_for_what_adapts() -> None:
    params = {BODY: torch.zeros(2, 3), LAST: torch.zeros(()), "item.tokens": torch.zeros(4)}
    rates = MetaSgd(inner_lr=0.3).init(params)
    assert {name: tuple(rate.shape) for name, rate in rates.items()} == {
        f"rates.{BODY}": (2, 3),
        f"rates.{LAST}": (),
    }
    assert all(bool((rate == torch.tensor(0.3)).all()) for rate in rates.values())


def test_reptile_moves_towards_the_weights_of_plain_training_on_the_task() -> None:
    gradient, loss = meta_gradient(Reptile(inner_lr=RATE, inner_steps=3))
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
    learner = Reptile(inner_lr=RATE, inner_steps=1)
    value, _ = learner.objective(PROBLEM, meta, support, query, query_loss)
    step = 2 * RATE * (START - 16 / 5)
    expected = 0.5 * 2 * (step / 2) ** 2 + 0.5 * (START - step - Y) ** 2
    assert float(value) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("precision", [1e-6, 1.0, 5000.0])
def test_the_bayesian_head_starts_at_any_precision(precision: float) -> None:
    learner = BayesianHead(prior_precision=precision, noise_precision=precision)
    params = learner.init({"head.out.weight": torch.zeros(2)})
    for name in ("bayes.precision", "bayes.noise"):
        found = torch.nn.functional.softplus(params[name])
        torch.testing.assert_close(found, torch.full_like(found, precision), rtol=1e-4, atol=0)
