"""The work of the training benchmark: a synthetic log of MovieLens-1M's shapes, and one model.

Knows sizes, tasks, and what a task costs at least; does not know clocks or who does the work. 3,706
items of Zipf popularity, users of 10..90 support events and 10 query events, a head of the size of
MeLU's [Lee et al., 2019, arXiv:1908.00413]: 256 -> 64 -> 64 -> 1.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.core.batch import Events, Features, Lane, Params, Task
from metarec_ray.core.parameters import split, values
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.towers import Sides, Towers
from metarec_ray.training.meta_step.optimizer import moments
from metarec_ray.training.meta_step.step import ParameterState

ITEMS, TASKS, QUERY, SUPPORT, ZIPF = 3706, 32, 10, (10, 90), 0.8
GENRES, MOST_GENRES, DECADES = 18, 6, 10
USER_FIELDS = (2, 7, 21, 100)  # values of gender, age, occupation, area
MODEL = Towers(dim=128, hidden=(64, 64), user_dropout=0.0)  # peers leave nobody out


class World(NamedTuple):
    """A catalogue: what its items are, how often those are met that are met, what is known."""

    features: Features  # [I]
    log_popularity: Tensor  # float [at most I]
    buffers: Params


def world(items: int = ITEMS, *, met: int = ITEMS) -> World:
    """Return a catalogue of which only the first `met` items ever occur; always the same one."""
    generator = torch.Generator().manual_seed(0)
    count = torch.randint(1, MOST_GENRES + 1, (items, 1), generator=generator)
    drawn = torch.rand(items, GENRES, generator=generator).argsort(1)[:, :MOST_GENRES]
    real = torch.arange(MOST_GENRES) < count
    # Row 0 is padding; the first row of a field stands for the unknown.
    decade = torch.randint(0, DECADES, (items, 1), generator=generator) + GENRES + 3
    offset = 3.5 + 0.3 * torch.randn(items, generator=generator)
    return World(
        features=Features(
            tokens=torch.cat([torch.where(real, drawn + 2, 0), decade], 1),
            weights=torch.cat([real / count.sqrt(), torch.ones(items, 1)], 1),
            dense=torch.zeros(items, 0),
        ),
        log_popularity=-ZIPF * torch.arange(1, min(met, items) + 1).log(),
        buffers={
            "offset": offset,
            "offset.later": offset,
            "reference.log_q": torch.zeros(0),
            "catalogue_size": torch.tensor(float(items)),
        },
    )


class Batch(NamedTuple):
    """T tasks without padding: E events of support, query, support, query, ... in one row."""

    items: Tensor  # int64 [U]: rows of the table
    item_features: Features  # [U]
    user: Features  # [T]
    position: Tensor  # int64 [E]: of each event's item in `items`
    owner: Tensor  # int64 [E]: each event's task
    offset: Tensor  # float [E]
    labels: list[Tensor]  # of each set
    sizes: list[int]


def make_lane(of: World, seed: int, tasks: int = TASKS) -> Lane:
    """Return a lane of `tasks` tasks, its unique items once; the same seed gives the same lane."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(SUPPORT[0], SUPPORT[1] + 1, (tasks, 1), generator=generator)
    width = int(sizes.max())
    mask = torch.arange(width) < sizes
    met = _draw(of.log_popularity, tasks, width + QUERY, generator)
    query = met[:, width:]
    support = torch.where(mask, met[:, :width], query[:, :1])  # padding touches no other item
    items, position = torch.unique(torch.cat([support, query], 1), return_inverse=True)
    label = (3.5 + 1.1 * torch.randn(position.shape, generator=generator)).round().clamp(1, 5)
    nothing = torch.zeros(tasks, 0)
    return Lane(
        entity=torch.arange(tasks),
        user=Features(_users(tasks, generator), torch.ones(tasks, len(USER_FIELDS)), nothing),
        items=items,
        item_features=Features(*(column[items] for column in of.features)),
        reference=torch.zeros(0, dtype=torch.int64),
        tasks=Task(
            support=_events(position[:, :width], label[:, :width], mask),
            query=_events(position[:, width:], label[:, width:], mask.new_ones(tasks, QUERY)),
            negatives=nothing.long(),
            begins=torch.ones(tasks, dtype=torch.bool),
            answers=torch.zeros(tasks, 0),
        ),
    )


def _draw(log_weight: Tensor, tasks: int, size: int, generator: torch.Generator) -> Tensor:
    """Return a draw without replacement a task, in any order, int64 [tasks, size]."""
    # The largest of log-weights with Gumbel noise are such a draw, the heaviest first.
    noise = -torch.empty(tasks, len(log_weight)).exponential_(generator=generator).log()
    drawn = (log_weight + noise).topk(size).indices
    return drawn.gather(1, torch.rand(drawn.shape, generator=generator).argsort(1))


def _users(tasks: int, generator: torch.Generator) -> Tensor:
    values = [torch.randint(0, n, (tasks,), generator=generator) for n in USER_FIELDS]
    first = torch.tensor([2, *(n + 1 for n in USER_FIELDS[:-1])]).cumsum(0)
    return torch.stack(values, 1) + first


def _events(item: Tensor, label: Tensor, mask: Tensor) -> Events:
    nothing = torch.zeros(*item.shape, 0)
    return Events(
        item=torch.where(mask, item, 0),
        label=torch.where(mask, label, 0.0),
        mask=mask,
        time=torch.zeros_like(item),
        context=Features(nothing.long(), nothing, nothing),
    )


def unpadded(lane: Lane, offset: Tensor) -> Batch:
    """Return the tasks of a lane without padding; `offset` [I] is the catalogue's."""
    pairs = zip(_sets(lane.tasks.support), _sets(lane.tasks.query), strict=True)
    sets = [one for pair in pairs for one in pair]
    position = torch.cat([item for item, _ in sets])
    sizes = [len(item) for item, _ in sets]
    return Batch(
        items=lane.items,
        item_features=lane.item_features,
        user=lane.user,
        position=position,
        owner=(torch.arange(len(sets)) // 2).repeat_interleave(torch.tensor(sizes)),
        offset=offset[lane.items][position],
        labels=[label for _, label in sets],
        sizes=sizes,
    )


def _sets(events: Events) -> list[tuple[Tensor, Tensor]]:
    rows = zip(events.item, events.label, events.mask, strict=True)
    return [(item[mask], label[mask]) for item, label, mask in rows]


def parameters(learner: MetaLearner, items: int = ITEMS, model: Towers = MODEL) -> ParameterState:
    """Return the state that training begins with; a last layer of zero would hide the others."""
    generator = torch.Generator().manual_seed(1)
    sides = Sides(
        user=Side(1 + sum(n + 1 for n in USER_FIELDS), 0),
        item=Side(1 + (GENRES + 1) + (DECADES + 1), 0),
        context=Side(1, 0),
        users=1,
        items=items,
    )
    dense, tables = split(model.init(sides, generator))
    out = dense["head.out.weight"]
    dense["head.out.weight"] = 0.1 * torch.randn(len(out), generator=generator)
    dense |= values(learner.init(dense, generator))
    return ParameterState(dense, tables, moments(dense | tables))


def doubled(value: Any) -> Any:
    """Return tensors, and tuples and dictionaries of them, in float64; integers stay."""
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: doubled(part) for name, part in value.items()}
    return type(value)(*(doubled(part) for part in value))


def flops(algorithm: str, *, steps: int, rows: float) -> float | None:
    """Return what a task of `rows` support events costs at least, in floating-point operations.

    Matrix products alone, directly: every row goes through a 256-wide first layer. A product and a
    sum are two operations. One row through the head is f = 2 (256 64 + 64 64 + 192), as the last
    layer reads the hidden 64 and the item's 128; from the loss back to the first layer's output it
    is d = 2 (64 64 + 64), and back to all weights f again. With n support rows, q query rows and K
    steps:

    - a step is s = n (2 f + d), the query, back to the weights and to what it read, is 3 q f;
    - second order: all of a step is gone through backwards, where each product becomes two:
      3 K s + 3 q f;
    - first order: K s + 3 q f;
    - the last layer alone: its inputs once and back to what they read, 3 n b with
      b = 2 (256 64 + 64 64); a step is n (2 192 + 2 192): 3 n b + 3 K n 4 192 + 3 q f.

    None where most is not products of this kind (a factorisation), or where something besides the
    meta-gradient is computed (Reptile reports the loss after the support alone).

    >>> f, d, n, q = 2 * (256 * 64 + 64 * 64 + 192), 2 * (64 * 64 + 64), 50, 10
    >>> flops("maml", steps=5, rows=n) == 3 * 5 * n * (2 * f + d) + 3 * q * f
    True
    """
    (first, second), dim = MODEL.hidden, MODEL.dim
    below, last = 2 * (2 * dim * first + first * second), 2 * (second + dim)
    row, back = below + last, 2 * (first * second + second)
    step, query = rows * (2 * row + back), 3 * QUERY * row
    if algorithm in ("maml", "meta_sgd"):
        return 3 * steps * step + query
    if algorithm == "fomaml":
        return steps * step + query
    if algorithm == "anil":
        return 3 * rows * below + 3 * steps * rows * 2 * last + query
    return None
