"""Every learner of the union, on every kind of feedback, keeps the same promises."""

import pytest
import torch
from pydantic import TypeAdapter

from metarec_ray.algorithms import Algorithm, Anil, BayesianHead, Fomaml, Maml, MetaSgd, Reptile
from metarec_ray.core.batch import Events, Features, Lane, Task
from metarec_ray.core.outer_loop import meta_gradient
from metarec_ray.models.towers import Side, Sides, Towers
from metarec_ray.training.objective import lane_objective

LEARNERS = [
    Maml(inner_lr=0.1, inner_steps=2),
    Fomaml(inner_lr=0.1, inner_steps=2),
    Anil(inner_lr=0.1, inner_steps=2),
    MetaSgd(inner_lr=0.1, inner_steps=2),
    Reptile(inner_lr=0.1, inner_steps=2),
    BayesianHead(),
]
FEEDBACK = ["explicit", "binary", "implicit"]
ITEMS, TASKS = 12, 3
each_learner = pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: learner.name)
each_feedback = pytest.mark.parametrize("feedback", FEEDBACK)


def features(n, *, tokens=4):
    return Features(
        tokens=torch.randint(1, tokens, (*n, 2)),
        weights=torch.ones(*n, 2, dtype=torch.float64),
        dense=torch.randn(*n, 1, dtype=torch.float64),
    )


def events(n, counts, feedback):
    mask = torch.arange(n)[None, :] < torch.tensor(counts)[:, None]
    label = torch.rand(TASKS, n, dtype=torch.float64)
    label = {
        "explicit": 1 + 4 * label,
        "binary": (label > 0.5).double(),
        "implicit": torch.ones_like(label),
    }[feedback]
    item = torch.stack([torch.randperm(ITEMS)[:n] for _ in range(TASKS)])
    return Events(
        item=torch.where(mask, item, 0),
        label=torch.where(mask, label, 0.0),
        mask=mask,
        time=torch.zeros(TASKS, n, dtype=torch.int64),
        context=features((TASKS, n)),
    )


def lane(feedback, *, support=(0, 2, 4), negatives=0):
    torch.manual_seed(0)
    return Lane(
        entity=torch.arange(TASKS),
        user=features((TASKS,)),
        items=torch.arange(ITEMS),
        item_features=features((ITEMS,)),
        reference=torch.arange(0, ITEMS, 2),
        tasks=Task(
            support=events(4, support, feedback),
            query=events(3, (3, 2, 1), feedback),
            negatives=torch.randint(0, ITEMS, (TASKS, negatives)),
        ),
    )


def parameters(learner, hidden=(3,)):
    side = Side(tokens=4, dense=1)
    model = Towers(dim=2, hidden=hidden, init_scale=0.5)
    sides = Sides(side, side, side, users=TASKS, items=ITEMS)
    dense, tables = model.init(sides, torch.Generator().manual_seed(1))
    dense["head.out.weight"] = torch.linspace(-0.3, 0.3, model.features_dim)
    dense |= learner.init(dense)
    as_double = lambda params: {name: value.double() for name, value in params.items()}  # noqa: E731
    return as_double(dense), as_double(tables)


def buffers():
    return {
        "offset": torch.linspace(-1, 1, ITEMS, dtype=torch.float64),
        "reference.log_q": torch.linspace(-2, -1, 6, dtype=torch.float64),
        "catalogue_size": torch.tensor(float(ITEMS), dtype=torch.float64),
    }


def gradient_of(learner, feedback, lane, hidden=(3,)):
    dense, tables = parameters(learner, hidden)
    return meta_gradient(lane_objective(learner, feedback, buffers(), lane), dense, tables)


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


@each_learner
@each_feedback
def test_padding_does_not_change_the_meta_gradient(learner, feedback):
    tidy = lane(feedback)
    dirty_support = tidy.tasks.support._replace(
        item=torch.where(tidy.tasks.support.mask, tidy.tasks.support.item, 7),
        label=torch.where(tidy.tasks.support.mask, tidy.tasks.support.label, 99.0),
    )
    dirty = tidy._replace(tasks=tidy.tasks._replace(support=dirty_support))
    assert_same(gradient_of(learner, feedback, tidy), gradient_of(learner, feedback, dirty))


@each_learner
@each_feedback
def test_the_order_of_tasks_does_not_change_the_meta_gradient(learner, feedback):
    forward = lane(feedback)
    order = torch.tensor([2, 0, 1])
    shuffled = forward._replace(
        entity=forward.entity[order],
        user=select(forward.user, order),
        tasks=select(forward.tasks, order),
    )
    assert_same(gradient_of(learner, feedback, forward), gradient_of(learner, feedback, shuffled))


@each_learner
@each_feedback
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
    together = gradient_of(learner, feedback, whole)
    for name, value in together.dense.items():
        mean = sum(single.dense[name] for single in singles) / TASKS
        torch.testing.assert_close(value, mean, rtol=1e-9, atol=1e-12)


@each_learner
@each_feedback
def test_without_support_the_query_is_scored_by_the_prior(learner, feedback):
    empty = lane(feedback, support=(0, 0, 0))
    dense, tables = parameters(learner)
    _, adapted = lane_objective(learner, feedback, buffers(), empty)(dense, tables)
    frozen = Maml(inner_lr=1e-12, inner_steps=1)
    _, prior = lane_objective(frozen, feedback, buffers(), empty)(dense, tables)
    torch.testing.assert_close(adapted, prior, rtol=1e-9, atol=1e-9)


# FOMAML's and Reptile's meta-gradients are not derivatives of a function: test_gradient.py
# derives them by hand.
@pytest.mark.parametrize(
    "learner",
    [one for one in LEARNERS if one.name not in ("fomaml", "reptile")],
    ids=lambda one: one.name,
)
@each_feedback
@pytest.mark.parametrize("negatives", [0, 5])
def test_the_meta_gradient_is_the_finite_difference(learner, feedback, negatives):
    task_lane = lane(feedback, negatives=negatives)
    dense, tables = parameters(learner)
    objective = lane_objective(learner, feedback, buffers(), task_lane)
    gradient = meta_gradient(objective, dense, tables)
    for name, value in dense.items():
        if not value.numel() or name == "offset.scale":
            continue
        direction = torch.randn(
            value.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
        )
        step = 1e-6
        up, _ = objective(dense | {name: value + step * direction}, tables)
        down, _ = objective(dense | {name: value - step * direction}, tables)
        expected = (up - down) / (2 * step)
        found = (gradient.dense[name] * direction).sum()
        torch.testing.assert_close(
            found, expected, rtol=1e-6, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}"
        )


@each_learner
def test_a_learner_survives_json(learner):
    adapter = TypeAdapter(Algorithm)
    assert adapter.validate_json(adapter.dump_json(learner)) == learner
