"""What every meta-learner of the union promises, on every kind of feedback that suits it."""

from functools import cache, partial

import pytest
import torch
from pydantic import TypeAdapter

from metarec_ray.algorithms.problem import (
    EncodedItems,
    Recipe,
    Support,
    encode_candidates,
    encode_support,
    make_problem,
)
from metarec_ray.algorithms.union import Algorithm
from metarec_ray.core.buckets import buckets
from metarec_ray.core.outer_loop import meta_gradient
from metarec_ray.core.parameters import split
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.towers import Sides
from metarec_ray.training.meta_step import objective
from metarec_ray.training.meta_step.objective import lane_objective
from tests.unit.algorithms.meta_learners import (
    CASES,
    ITEMS,
    LEARNERS,
    MODEL,
    TASKS,
    buffers,
    lane,
    named,
    parameters,
)

# The meta-gradients of the others are not derivatives of their objective: gradient/test_maml.py
# holds them to their own definitions.
EXACT = [case for case in CASES if not getattr(case[0], "first_order", False)]
each_case = pytest.mark.parametrize(("learner", "feedback"), CASES, ids=named(CASES))


def gradient_of(learner, feedback, lane, *, oracle=False):
    dense, tables = parameters(learner)
    recipe = Recipe.of(learner, MODEL, feedback)
    return meta_gradient(lane_objective(recipe, buffers(), lane, oracle=oracle), dense, tables)


@cache
def usual(learner, feedback, negatives=0):
    return gradient_of(learner, feedback, lane(feedback, negatives=negatives))


@cache
def one_by_one(learner, feedback, negatives):
    return gradient_of(learner, feedback, lane(feedback, negatives=negatives), oracle=True)


def select(value, index):
    return (
        value[index]
        if isinstance(value, torch.Tensor)
        else type(value)(*(select(part, index) for part in value))
    )


def assert_same(one, other):
    for name in one.dense:
        torch.testing.assert_close(one.dense[name], other.dense[name], rtol=1e-9, atol=1e-12)
    for name in one.rows:
        torch.testing.assert_close(one.rows[name], other.rows[name], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(one.metrics, other.metrics, rtol=1e-9, atol=1e-12)


@each_case
def test_padding_does_not_change_the_meta_gradient(learner, feedback):
    tidy = lane(feedback)
    dirty_support = tidy.tasks.support._replace(
        item=torch.where(tidy.tasks.support.mask, tidy.tasks.support.item, 7),
        label=torch.where(tidy.tasks.support.mask, tidy.tasks.support.label, 99.0),
    )
    dirty = tidy._replace(tasks=tidy.tasks._replace(support=dirty_support))
    assert_same(usual(learner, feedback), gradient_of(learner, feedback, dirty))


BATCHED = [case for case in CASES if case[0].batched]


@pytest.mark.parametrize(("learner", "feedback"), BATCHED, ids=named(BATCHED))
@pytest.mark.parametrize("negatives", [0, 5])
@pytest.mark.parametrize("overhead", [0, 1000], ids=["a bucket a length", "one bucket"])
def test_tasks_at_once_are_learned_from_as_one_by_one(
    learner, feedback, negatives, overhead, monkeypatch
):
    monkeypatch.setattr(objective, "buckets", partial(buckets, overhead=overhead))
    at_once = gradient_of(learner, feedback, lane(feedback, negatives=negatives))
    assert_same(at_once, one_by_one(learner, feedback, negatives))


@each_case
def test_the_order_of_tasks_does_not_change_the_meta_gradient(learner, feedback):
    forward = lane(feedback)
    order = torch.tensor([2, 0, 1])
    shuffled = forward._replace(
        entity=forward.entity[order],
        user=select(forward.user, order),
        tasks=select(forward.tasks, order),
    )
    assert_same(usual(learner, feedback), gradient_of(learner, feedback, shuffled))


@each_case
def test_a_batch_of_tasks_gives_the_mean_of_a_loop_over_them(learner, feedback):
    whole = lane(feedback)
    singles = []
    for task in range(TASKS):
        index = torch.tensor([task])
        one = whole._replace(
            entity=whole.entity[index],
            user=select(whole.user, index),
            tasks=select(whole.tasks, index),
        )
        singles.append(gradient_of(learner, feedback, one))
    together = usual(learner, feedback)
    for name, value in together.dense.items():
        mean = sum(single.dense[name] for single in singles) / TASKS
        torch.testing.assert_close(value, mean, rtol=1e-9, atol=1e-12)


def plain(learner, feedback):
    """Return parameters, a problem and a support [4] of items 0 to 3; items are scored alike."""
    meta, _ = parameters(learner)
    drawn = torch.Generator().manual_seed(5)
    vector = torch.randn(ITEMS, 4, generator=drawn).double()
    items = EncodedItems(
        torch.arange(ITEMS), vector, buffers()["offset"], torch.arange(len(torch.arange(ITEMS)))
    )
    user, now = torch.linspace(-1, 1, 4).double(), torch.full((1, 4), 0.2).double()
    log_q = buffers()["reference.log_q"]
    problem = make_problem(feedback, items.at(torch.arange(0, ITEMS, 2)), log_q, user, now)
    label = {"implicit": [1, 1, 1, 1], "binary": [1, 0, 0, 1], "explicit": [5, 1, 2, 4]}[feedback]
    support = Support(
        items.at(torch.arange(4)),
        now,
        torch.tensor(label).double(),
        torch.ones(4, dtype=torch.bool),
        60_000_000 * torch.arange(4),
    )
    return meta, problem, items, support, user


def answer(learner, case, support):
    """Return the scores of the catalogue after `support`."""
    meta, problem, items, _, user = case
    fast = learner.adapt(problem, meta, encode_support(support, user))
    return learner.score(problem, meta, fast, encode_candidates(items, user, support.context))


def prior(learner, case):
    """Return the scores that a learner owes to a user of whom no event is known."""
    meta, problem, items, support, user = case
    if learner.name in ("transformer", "recurrent"):  # what the network writes of the user alone
        return answer(learner, case, first(support, 0))
    if learner.name == "meta_embedding":
        hidden = torch.tanh(user @ meta["generator.0.weight"])
        user = user + hidden @ meta["generator.out.weight"]
    return problem.predict(meta, encode_candidates(items, user, support.context))


def first(support, n):
    items = support.items.at(torch.arange(n))
    return support._replace(
        items=items, label=support.label[:n], mask=support.mask[:n], time=support.time[:n]
    )


@each_case
def test_an_empty_support_is_scored_by_the_prior(learner, feedback):
    case = plain(learner, feedback)
    support = case[3]
    empty = support._replace(mask=torch.zeros(4, dtype=torch.bool))
    found = answer(learner, case, empty)
    torch.testing.assert_close(found, prior(learner, case), rtol=1e-9, atol=1e-12)


@each_case
@pytest.mark.parametrize("k", [1, 4])
def test_the_items_of_a_support_tell_candidates_apart(learner, feedback, k):
    case = plain(learner, feedback)
    support = first(case[3], k)
    found, before = answer(learner, case, support), prior(learner, case)
    others = support._replace(items=case[2].at(torch.arange(6, 6 + k)))
    shift, other = found - before, answer(learner, case, others) - before
    # More than one number for all candidates, and not the same for other items.
    assert shift.std() > 1e-3
    assert (shift - other).std() > 1e-3


@each_case
def test_the_labels_of_a_support_count_unless_they_are_all_positives(learner, feedback):
    case = plain(learner, feedback)
    support = case[3]
    moved = answer(learner, case, support._replace(label=support.label.flip(0).roll(1)))
    same = torch.allclose(moved, answer(learner, case, support), atol=1e-3)
    assert same is (feedback == "implicit")


@each_case
def test_an_empty_support_changes_no_prediction_from_one_task_to_another(learner, feedback):
    # Without an event, what is scored depends on the user and the candidates alone.
    empty = lane(feedback, support=(0, 0, 0))
    other = lane(feedback, support=(0, 0, 0))
    noise = torch.randn_like(other.tasks.support.label)
    support = other.tasks.support._replace(label=noise, time=other.tasks.support.time + 5)
    other = other._replace(tasks=other.tasks._replace(support=support))
    assert_same(gradient_of(learner, feedback, empty), gradient_of(learner, feedback, other))


@pytest.mark.parametrize(("learner", "feedback"), EXACT, ids=named(EXACT))
@pytest.mark.parametrize("negatives", [0, 5])
def test_the_meta_gradient_is_the_finite_difference(learner, feedback, negatives):
    gradient = usual(learner, feedback, negatives)
    dense, tables = parameters(learner)
    task_lane = lane(feedback, negatives=negatives)
    value_of = lane_objective(Recipe.of(learner, MODEL, feedback), buffers(), task_lane)
    # Along one direction that moves every parameter at once.
    generator = torch.Generator().manual_seed(3)
    direction = {n: torch.randn(v.shape, generator=generator).double() for n, v in dense.items()}
    step = 1e-6
    up, _ = value_of({n: v + step * direction[n] for n, v in dense.items()}, tables)
    down, _ = value_of({n: v - step * direction[n] for n, v in dense.items()}, tables)
    found = sum((gradient.dense[name] * direction[name]).sum() for name in dense)
    torch.testing.assert_close(found, (up - down) / (2 * step), rtol=1e-6, atol=0)


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: learner.name)
def test_a_learner_survives_json(learner):
    adapter = TypeAdapter(Algorithm)
    assert adapter.validate_json(adapter.dump_json(learner)) == learner


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: learner.name)
def test_weights_and_embeddings_decay_and_what_zero_is_wrong_for_does_not(learner):
    side = Side(tokens=4, dense=1)
    sides = Sides(side, side, side, users=TASKS, items=ITEMS)
    model = MODEL.model_copy(update={"user_ids": True})
    fresh = model.init(sides, torch.Generator())
    declared = fresh | learner.init(split(fresh)[0], torch.Generator())
    weights = (".tokens", ".dense", ".ids", ".item", ".user", ".weight")
    own_value = ("rates.", "bayes.")  # learned rates and precisions
    for name, parameter in declared.items():
        assert parameter.decays == (name.endswith(weights) and not name.startswith(own_value)), name
