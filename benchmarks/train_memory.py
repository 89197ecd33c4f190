"""How much memory the training benchmark's cases take, each in a process of its own.

Knows resident memory; does not know clocks. Processes come from a server that has imported torch
and the project and has done nothing else.
"""

import multiprocessing
import resource
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple, TypeVar

import psutil
import torch

from benchmarks.train_cases import Case, training
from benchmarks.train_work import ITEMS, MODEL, TASKS, make_lane, parameters, world

A = TypeVar("A")
R = TypeVar("R")
MEGA = 1e6


class Variant(NamedTuple):
    """What memory may grow with."""

    case: Case
    tasks: int = TASKS
    hidden: tuple[int, int] = (64, 64)
    items: int = ITEMS


class Growth(NamedTuple):
    """Memory of one variant, in megabytes, and what it may grow with and what it must not.

    Attributes:
        grown: peak over what the process held after a step on two tasks.
        events: of all supports and queries.
        touched: unique items of the lane.
        copies: a copy of the head's weights for each task.
        tables: the items' table with its two moments.

    """

    grown: float
    events: int
    touched: int
    copies: float
    tables: float


def each_alone(function: Callable[[A], R], values: Iterable[A]) -> Iterator[R]:
    """Yield `function` of each value, computed one after another, each in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    # The first optimizer imports dynamo, 75 MB: so that all begin alike, everybody has it.
    context.set_forkserver_preload([__name__, "torch._dynamo"])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as alone:
        yield from alone.map(function, values)


def peak_mb(case: Case) -> float:
    """Return the largest resident size of this process after two batches, imports included."""
    torch.set_num_threads(1)
    of = world()
    step = training(case, of, parameters(case.learner()), [make_lane(of, 0), make_lane(of, 1)])
    step(0)
    step(1)
    return _peak()


def growth(variant: Variant) -> Growth:
    """Return what one batch takes; the items that occur are the same in any catalogue."""
    torch.set_num_threads(1)
    of = world(variant.items, met=ITEMS)
    model = MODEL.model_copy(update={"hidden": variant.hidden})
    state = parameters(variant.case.learner(), variant.items, model)
    lane = make_lane(of, 0, variant.tasks)
    step = training(variant.case, of, state, [make_lane(of, 1, 2), lane])
    step(0)
    held = psutil.Process().memory_info().rss / MEGA
    step(1)
    head = sum(v.numel() for name, v in state.dense.items() if name.startswith("head."))
    sets = (lane.tasks.support, lane.tasks.query)
    return Growth(
        grown=max(0.0, _peak() - held),
        events=sum(int(events.mask.sum()) for events in sets),
        touched=len(lane.items),
        copies=4 * head * variant.tasks / MEGA,
        tables=3 * 4 * state.tables["item.ids"].numel() / MEGA,
    )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGA
