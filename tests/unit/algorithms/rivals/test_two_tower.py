import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.base import Problem
from metarec_ray.algorithms.problem import EncodedItems, Support, encode_support, make_problem
from metarec_ray.algorithms.rivals.two_tower import TwoTower
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.parameters import split, values
from metarec_ray.data.settings import Feedback
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.towers import Sides, Towers

D, ITEMS = 3, 8
CONTEXT = torch.zeros(1, D, dtype=torch.float64)


def catalogue() -> EncodedItems:
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(ITEMS, D, generator=generator, dtype=torch.float64)
    return EncodedItems(
        torch.arange(ITEMS),
        vector,
        torch.linspace(-1, 1, ITEMS).double(),
        torch.arange(len(torch.arange(ITEMS))),
    )


def user() -> Tensor:
    return torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)


def problem(feedback: Feedback) -> Problem:
    return make_problem(
        feedback, catalogue(), torch.zeros(ITEMS, dtype=torch.float64), user(), CONTEXT
    )


def parameters(learner: TwoTower, *, hidden: tuple[int, ...] = ()) -> Params:
    side = Side(tokens=2, dense=0)
    model = Towers(dim=D, hidden=hidden)
    generator = torch.Generator().manual_seed(1)
    dense, _ = split(model.init(Sides(side, side, side, users=1, items=ITEMS), generator))
    dense |= values(learner.init(dense, generator))
    return {name: value.double() for name, value in dense.items()}


def events(*rows: tuple[int, float], padding: int = 0) -> Encoded:
    n = len(rows) + padding
    item = torch.tensor([item for item, _ in rows] + [7] * padding, dtype=torch.int64)
    label = torch.tensor([label for _, label in rows] + [9.0] * padding, dtype=torch.float64)
    mask, time = torch.arange(n) < len(rows), torch.zeros(n, dtype=torch.int64)
    return encode_support(Support(catalogue().at(item), CONTEXT, label, mask, time), user())


def predict(learner: TwoTower, feedback: Feedback, meta: Params, given: Encoded) -> Tensor:
    everything = events(*[(item, 0.0) for item in range(ITEMS)])
    fast = learner.adapt(problem(feedback), meta, given)
    return learner.score(problem(feedback), meta, fast, everything)


def test_without_fine_tuning_the_user_is_features_plus_the_shrunk_mean_of_the_history():
    learner = TwoTower(shrink=1.0, inner_steps=0)
    meta = parameters(learner)
    meta["tower.history"] = torch.diag(torch.tensor([2.0, 3.0, 4.0])).double()
    q, offset = catalogue().vector, catalogue().offset
    vector = user() + (q[1] + q[4]) / (2 + 1) * torch.tensor([2.0, 3.0, 4.0])
    found = predict(learner, "implicit", meta, events((1, 1.0), (4, 1.0), padding=2))
    assert torch.allclose(found, q @ vector + offset)


def test_a_rated_item_counts_by_what_the_features_left_unexplained():
    learner = TwoTower(shrink=1.0, inner_steps=0)
    meta, q = parameters(learner), catalogue().vector
    expected = q @ user() + catalogue().offset
    mean = ((5 - expected[1]) * q[1] + (2 - expected[4]) * q[4]) / (2 + 1)
    found = predict(learner, "explicit", meta, events((1, 5.0), (4, 2.0), padding=1))
    assert torch.allclose(found, expected + q @ mean)


def test_one_step_of_fine_tuning_moves_the_user_against_the_gradient():
    # Mean of -log softmax over the catalogue: with p_j = exp(s_j) / sum exp(s), the gradient is
    # sum_j p_j q_j - q_i.
    learner = TwoTower(shrink=1.0, inner_steps=1, inner_lr=0.5)
    meta, q = parameters(learner), catalogue().vector
    start = user() + q[1] / (1 + 1)
    score = q @ start + catalogue().offset
    p = score.softmax(0)
    moved = start - 0.5 * (p @ q - q[1])
    found = predict(learner, "implicit", meta, events((1, 1.0)))
    assert torch.allclose(found, q @ moved + catalogue().offset)


@pytest.mark.parametrize("feedback", ["implicit", "explicit", "binary"])
@pytest.mark.parametrize("hidden", [(), (4,)])
def test_an_empty_support_leaves_the_features_alone(feedback: Feedback, hidden: tuple[int, ...]):
    learner = TwoTower(inner_steps=3)
    meta = parameters(learner, hidden=hidden)
    everything = events(*[(item, 0.0) for item in range(ITEMS)])
    prior = problem(feedback).predict(meta, everything)
    assert torch.allclose(predict(learner, feedback, meta, events(padding=2)), prior)


@pytest.mark.parametrize("hidden", [(), (4,)])
def test_fine_tuning_lowers_the_loss_of_the_support(hidden: tuple[int, ...]):
    given, judge = events((1, 1.0), (4, 1.0)), problem("implicit")
    losses = []
    for steps in (0, 5):
        learner = TwoTower(inner_steps=steps)
        fast = learner.adapt(judge, parameters(learner, hidden=hidden), given)
        losses.append(judge.support_loss(fast, given).item())
    assert losses[1] < losses[0]


def test_training_does_not_look_through_fine_tuning():
    # The objective is the query loss of the towers as they are; what is reported is the tuned one.
    learner, judge = TwoTower(shrink=1.0, inner_steps=3), problem("implicit")
    meta, given, query = parameters(learner), events((1, 1.0)), events((2, 1.0), (5, 1.0))

    def loss(score):
        return -torch.log_softmax(score(events(*[(i, 0.0) for i in range(ITEMS)])), 0)[
            [2, 5]
        ].mean()

    value, reported = learner.objective(judge, meta, given, query, loss)
    plain = TwoTower(shrink=1.0, inner_steps=0).objective(judge, meta, given, query, loss)
    assert torch.equal(value, plain[0])
    tuned = predict(learner, "implicit", meta, given)
    assert torch.allclose(reported, -torch.log_softmax(tuned, 0)[[2, 5]].mean())
