"""Learners on random towers, and requests to them, for tests of what is served."""

import math
from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.algorithms.label_scale import LabelScale
from metarec_ray.algorithms.problem import Recipe
from metarec_ray.core.batch import Features
from metarec_ray.core.parameters import split, values
from metarec_ray.data.settings import Feedback
from metarec_ray.inference.single import Trained
from metarec_ray.inference.supports import Supports
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.towers import Sides, Towers

ITEMS, EVENTS, DIM = 1500, 6, 8
ANY = torch.ones(ITEMS, dtype=torch.bool)
BY_ID = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(9))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def served(
    learner: MetaLearner, feedback: Feedback = "explicit", hidden: tuple[int, ...] = ()
) -> Trained:
    """A learner on random towers: a token an item, no user features but one."""
    model = Towers(dim=DIM, hidden=hidden, init_scale=0.3)
    generator = torch.Generator().manual_seed(1)
    sides = Sides(Side(3, 0), Side(4, 0), Side(1, 0), 1, ITEMS)
    dense, tables = split(model.init(sides, generator))
    dense["head.out.weight"] = drawn(len(dense["head.out.weight"])) * 0.2
    dense |= values(learner.init(dense, generator))
    reference = torch.arange(0, ITEMS, 20)
    buffers = {
        "buffer.offset": 3 + drawn(ITEMS, seed=2) * 0.3,
        "buffer.reference.items": reference,
        "buffer.reference.log_q": torch.full((len(reference),), -math.log(20)),
    }
    if feedback == "explicit":
        buffers |= LabelScale(3.0, 1.1).buffers("buffer.")
    tokens = torch.arange(ITEMS).unsqueeze(1) % 4
    items = Features(tokens, torch.ones(ITEMS, 1), torch.zeros(ITEMS, 0))
    recipe = Recipe.of(learner, model, feedback)
    return Trained(recipe, dense | tables | buffers, items=items)


def supports(tasks: int, feedback: Feedback = "explicit") -> Supports:
    """Supports of tasks of which the first has no event."""
    generator = torch.Generator().manual_seed(tasks)
    nothing = torch.zeros(tasks, EVENTS, 0)
    label = drawn(tasks, EVENTS, seed=3) + 3
    return Supports(
        item=torch.randint(ITEMS, (tasks, EVENTS), generator=generator),
        label=torch.ones_like(label) if feedback == "implicit" else label,
        mask=torch.arange(EVENTS) < torch.arange(tasks).unsqueeze(1),
        time=torch.arange(EVENTS).expand(tasks, -1),
        context=Features(nothing.long(), nothing, nothing),
        user=Features(torch.ones(tasks, 1).long(), torch.ones(tasks, 1), nothing[:, 0]),
        now=Features(*(column[:, :1] for column in (nothing.long(), nothing, nothing))),
    )


def clock(*, low: bool) -> Callable[[], float]:
    """Seconds that say the trials of one precision, which come in turn, are the shorter ones."""
    calls = count()

    def now() -> float:
        trial, end = divmod(next(calls), 2)
        is_low = trial % 2 == 1
        return float(end) * (1.0 if is_low == low else 2.0)

    return now
