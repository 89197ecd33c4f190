"""Every meta-learner of the union, small, with a lane of tasks to learn from: shared by tests."""

from typing import get_args

import torch

from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.algorithms.union import Algorithm
from metarec_ray.core.batch import Events, Features, Lane, Task
from metarec_ray.core.parameters import split, values
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.towers import Sides, Towers

ITEMS, TASKS = 12, 3
MODEL = Towers(dim=4, hidden=(3,), init_scale=0.5)
# Fields that make a learner quick and all of its parts felt; each takes those it has.
SMALL = {"inner_lr": 0.1, "inner_steps": 2, "half_life": 2.0, "prior_events": 1.0, "width": 8}
CLASSES = [c for c in get_args(get_args(Algorithm)[0]) if issubclass(c, MetaLearner)]
LEARNERS = [c(**{k: v for k, v in SMALL.items() if k in c.model_fields}) for c in CLASSES]
CASES = [(learner, feedback) for learner in LEARNERS for feedback in learner.suits]


def named(cases):
    return [f"{learner.name}-{feedback}" for learner, feedback in cases]


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
    time = 60_000_000 * torch.arange(n).expand(TASKS, n)
    return Events(
        item=torch.where(mask, item, 0),
        label=torch.where(mask, label, 0.0),
        mask=mask,
        time=torch.where(mask, time, 0),
        context=features((TASKS, n)),
    )


def lane(feedback, *, support=(0, 2, 4), negatives=0):
    torch.default_generator.manual_seed(0)
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
            begins=torch.arange(TASKS) % 2 == 0,
            answers=torch.zeros(TASKS, 0),
        ),
    )


def parameters(learner):
    side = Side(tokens=4, dense=1)
    sides = Sides(side, side, side, users=TASKS, items=ITEMS)
    generator = torch.Generator().manual_seed(1)
    dense, tables = split(MODEL.init(sides, generator))
    dense["head.out.weight"] = torch.linspace(-0.3, 0.3, len(dense["head.out.weight"]))
    own = values(learner.init(dense, generator))
    # What a learner begins at 0 would hide what it multiplies.
    dense |= {n: p + 0.3 * torch.randn(p.shape, generator=generator) for n, p in own.items()}
    as_double = lambda params: {name: value.double() for name, value in params.items()}  # noqa: E731
    return as_double(dense), as_double(tables)


def buffers():
    return {
        "offset": torch.linspace(-1, 1, ITEMS, dtype=torch.float64),
        "offset.later": torch.linspace(1, -1, ITEMS, dtype=torch.float64),
        "reference.log_q": torch.linspace(-2, -1, 6, dtype=torch.float64),
        "catalogue_size": torch.tensor(float(ITEMS), dtype=torch.float64),
    }
