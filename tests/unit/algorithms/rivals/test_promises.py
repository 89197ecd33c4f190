"""What every fitted rival promises, whatever it is."""

import pytest
import torch

from metarec_ray.algorithms.base import FittedLearner, Histories
from metarec_ray.algorithms.rivals import (
    Bpr,
    ContentProfile,
    ContentRidge,
    DropoutNet,
    EasePopularity,
    IAls,
    ItemKNNPopularity,
    MfFoldIn,
    RatingUserKNN,
    UserKNN,
)
from metarec_ray.core.batch import Encoded
from tests.unit.algorithms.rivals.small import ratings, scores, support, tastes

LEARNERS = [
    Bpr(factors=2, epochs=2),
    ContentProfile(),
    ContentRidge(),
    DropoutNet(factors=2, epochs=1),
    EasePopularity(penalty=2.0),
    IAls(factors=2),
    ItemKNNPopularity(),
    MfFoldIn(factors=2),
    RatingUserKNN(),
    UserKNN(),
]
each = pytest.mark.parametrize("learner", LEARNERS, ids=lambda one: one.name)


def data(learner: FittedLearner) -> Histories:
    return ratings() if learner.suits == ("explicit",) else tastes(items=12, length=4)


@each
def test_padding_changes_no_score(learner: FittedLearner):
    meta = learner.fit(data(learner))
    plain = scores(learner, meta, support((1, 4.0), (2, 3.0)))
    padded = scores(learner, meta, support((1, 4.0), (2, 3.0), padding=3))
    assert torch.allclose(plain, padded, atol=1e-5)


@each
def test_a_batch_gives_what_a_loop_gives(learner: FittedLearner):
    meta = learner.fit(data(learner))
    tasks = [
        support((1, 4.0), (2, 3.0), padding=1),
        support((5, 2.0), padding=2),
        support((7, 5.0), (3, 5.0), (0, 1.0)),
    ]
    loop = torch.stack([scores(learner, meta, one) for one in tasks])
    stacked = Encoded(*(torch.stack(column) for column in zip(*tasks, strict=True)))
    batch = torch.func.vmap(lambda one: scores(learner, meta, one))(stacked)
    assert torch.allclose(loop, batch, atol=1e-5)


@each
def test_the_order_of_the_support_changes_no_score(learner: FittedLearner):
    meta = learner.fit(data(learner))
    forward = scores(learner, meta, support((1, 4.0), (2, 3.0), (7, 5.0)))
    back = scores(learner, meta, support((7, 5.0), (2, 3.0), (1, 4.0)))
    assert torch.allclose(forward, back, atol=1e-5)


@each
def test_what_is_fitted_are_tensors_that_need_no_gradient(learner: FittedLearner):
    meta = learner.fit(data(learner))
    assert all(isinstance(value, torch.Tensor) for value in meta.values())
    assert not any(value.requires_grad for value in meta.values())


@each
def test_a_learner_survives_json(learner: FittedLearner):
    assert type(learner).model_validate_json(learner.model_dump_json()) == learner
