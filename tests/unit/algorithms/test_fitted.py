"""What every fitted learner of the union promises, whatever it is."""

from functools import cache

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.base import FittedLearner, StatisticalLearner
from metarec_ray.algorithms.problem import no_problem
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories
from metarec_ray.errors import DataError
from tests.unit.algorithms.fitted import FITTED, STATISTICAL, name
from tests.unit.algorithms.plain_events import catalogue_of
from tests.unit.algorithms.rivals.small import clicks, histories, liked, ratings, support, tastes

ITEMS = 12
REFUSED = {
    "no events": ("eb_ridge", "variational_bayes", "gp_head", "covariance_tracking"),
    "one event": ("gp_head",),  # one of its two backbones would see none
}
READ_ORDER = ("sasrec", "windowed_ridge", "sequence_neighbours")
each = pytest.mark.parametrize("learner", FITTED, ids=name)


def data(learner: FittedLearner) -> Histories:
    """Return histories of ITEMS items that have content; nothing is known of users."""
    rated = ratings(users=40, items=ITEMS)
    if learner.suits == ("explicit",):
        return rated
    return tastes(users=40, items=ITEMS, length=4)._replace(items=rated.items)


@cache
def fitted(learner: type[FittedLearner]) -> Params:
    one = next(one for one in FITTED if type(one) is learner)
    return one.fit(data(one))


def scores(learner: FittedLearner, meta: Params, given: Encoded, n_items: int = ITEMS) -> Tensor:
    problem = no_problem(learner.suits[0])
    fast = learner.adapt(problem, meta, given)
    return learner.score(problem, meta, fast, catalogue_of(n_items))


@each
def test_padding_changes_no_score(learner: FittedLearner):
    meta = fitted(type(learner))
    plain = scores(learner, meta, support((1, 4.0), (2, 3.0)))
    padded = scores(learner, meta, support((1, 4.0), (2, 3.0), padding=3))
    assert torch.allclose(plain, padded, atol=1e-5)


@each
def test_a_batch_gives_what_a_loop_gives(learner: FittedLearner):
    meta = fitted(type(learner))
    tasks = [
        support((1, 4.0), (2, 3.0), padding=1),
        support((5, 2.0), padding=2),
        support((7, 5.0), (3, 5.0), (0, 1.0)),
        support((7, 5.0), (3, 5.0), (7, 1.0)),
        support(padding=3),
    ]
    loop = torch.stack([scores(learner, meta, one) for one in tasks])
    stacked = Encoded(*(torch.stack(column) for column in zip(*tasks, strict=True)))
    batch = torch.func.vmap(lambda one: scores(learner, meta, one))(stacked)
    assert torch.allclose(loop, batch, atol=1e-5)


@pytest.mark.parametrize(
    "learner", [one for one in FITTED if name(one) not in READ_ORDER], ids=name
)
def test_the_order_of_the_support_changes_no_score(learner: FittedLearner):
    meta = fitted(type(learner))
    forward = scores(learner, meta, support((1, 4.0), (2, 3.0), (7, 5.0)))
    back = scores(learner, meta, support((7, 5.0), (2, 3.0), (1, 4.0)))
    assert torch.allclose(forward, back, atol=1e-5)


@pytest.mark.parametrize(
    "learner",
    [one for one in FITTED if "positive_min" in type(one).model_fields],
    ids=name,
)
def test_repeats_of_a_positive_count_once_as_they_do_in_the_fit(learner: FittedLearner):
    meta = fitted(type(learner))
    repeated = scores(learner, meta, liked(1, 2, 1, 1, 2, padding=2))
    assert torch.allclose(repeated, scores(learner, meta, liked(1, 2)), atol=1e-5)


@each
def test_what_is_fitted_are_tensors_that_need_no_gradient(learner: FittedLearner):
    meta = fitted(type(learner))
    assert all(isinstance(value, torch.Tensor) for value in meta.values())
    assert not any(value.requires_grad for value in meta.values())


@each
def test_a_learner_survives_json(learner: FittedLearner):
    assert type(learner).model_validate_json(learner.model_dump_json()) == learner


EDGES = {
    "no events": clicks([], [], n_items=4),
    "an entity without events": clicks([0, 1, 2], [2, 3], [], [0, 3], n_items=4),
    "one event each": clicks(*[[user % 4] for user in range(8)], n_items=4),
    "one event": clicks([0], [], n_items=4),
    "one item": clicks(*[[0]] * 6, n_items=1),
    "one item, met again and again": clicks(*[[0] * 25] * 8, n_items=1),
    "two entities": histories([(0, 1.0), (1, 5.0), (2, 3.0)], [(1, 2.0), (2, 4.0)], n_items=4),
    "repeats": clicks(*[[user % 4, 1, 2, 3, 0, 1] * 5 for user in range(20)], n_items=4),
    "everybody met everything": clicks(*[list(range(20))] * 20, n_items=20),
    "the same label everywhere": ratings()._replace(label=torch.full_like(ratings().label, 4.0)),
}


@pytest.mark.parametrize("edge", EDGES)
@each
def test_scores_are_finite_at_the_edges_of_a_log(learner: FittedLearner, edge: str):
    log = EDGES[edge]
    if name(learner) in REFUSED.get(edge, ()):
        with pytest.raises(DataError, match="must have at least one rating to learn from, got 0"):
            learner.fit(log)
        return
    meta = learner.fit(log)
    for given in (liked(), liked(padding=2), liked(0), support((0, 3.0), (0, 1.0), (0, 3.0))):
        given = given._replace(index=given.index.clamp(max=log.n_items - 1))
        found = scores(learner, meta, given, log.n_items)
        assert found.shape == (log.n_items,)
        assert found.isfinite().all()
        assert learner.log_share(found).isfinite().all()


@pytest.mark.parametrize(
    "learner",
    [one for one in FITTED if "positive_min" in type(one).model_fields],
    ids=name,
)
def test_scores_are_finite_without_positives(learner: FittedLearner):
    picky = learner.model_copy(update={"positive_min": 9.0})
    meta = picky.fit(data(learner))
    for given in (liked(), liked(0, 1), support((0, 9.0))):
        assert scores(picky, meta, given).isfinite().all()


@pytest.mark.parametrize("learner", STATISTICAL, ids=name)
def test_statistics_of_shards_add_up_to_those_of_the_whole(
    learner: StatisticalLearner, monkeypatch: pytest.MonkeyPatch
):
    one = learner.fit(ratings())
    monkeypatch.setattr(type(learner), "shard", 25)
    several = learner.fit(ratings())
    assert one.keys() == several.keys()
    for key in one:
        assert torch.allclose(one[key].double(), several[key].double(), atol=2e-3), key
