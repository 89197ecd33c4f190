"""Windowed ridge: from the first k events straight to what the next ones will be, in closed form.

Knows item rows and their order only. A task is a window of a training history: x is the bag of its
first k items, older ones decayed; y is the bag of the items that follow the whole window. One ridge
regression a k, I items.
"""

from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from metarec_ray.algorithms.base import Histories, Params, Problem, StatisticalLearner
from metarec_ray.algorithms.rivals.sums import freshness, position_of_event
from metarec_ray.core.batch import Encoded
from metarec_ray.errors import DataError

_EDGES = (
    0,
    5,
    19,
    59,
)  # offsets up to each are centred together: a history's start is unlike its middle
_STEP = 2  # between the offsets of neighbouring windows
_FEW = 3  # query events a history must have to give a task
_CHUNK = 20_000  # windows summed at a time


class Size(NamedTuple):
    """How the regression of one support size is made.

    Attributes:
        events: support size k.
        decay: weight of an item against the one after it.
        offsets: largest offset of a window.
        fade: a window of offset o weighs 1 / (1 + o / fade).
        scale: of what the support adds to the prior.
        even: the same penalty for every item; otherwise rare items are penalised less.

    """

    events: int
    decay: float
    offsets: int
    fade: float
    scale: float
    even: bool


_SIZES = (
    Size(1, 1.0, 58, 3.0, 1.0, False),
    Size(3, 0.7, 58, 3.0, 1.0, False),
    Size(5, 0.7, 58, 3.0, 1.0, False),
    Size(10, 0.85, 398, 20.0, 1.5, True),
)


class WindowedRidge(StatisticalLearner):
    """A linear in-context learner: ridge regression of later events on the support, over windows.

    An empty support gives the prior: how often entities that began lately met the item after their
    first events. A support between two sizes is read by the smaller one's regression, its newest
    events only.

    Attributes:
        window: events between the start of a task and its query.
        query_size: events of the query.
        penalty: of the regression.
        half_life_days: of the prior, as in `RecencyPopularity`.

    """

    name: Literal["windowed_ridge"] = "windowed_ridge"
    kind: ClassVar = "learner"
    window: Annotated[int, Field(ge=10)] = 10
    query_size: PositiveInt = 10
    penalty: PositiveFloat = 100.0
    half_life_days: PositiveFloat = 83.0
    first_position: NonNegativeInt = 5
    last_position: PositiveInt = 25
    max_items: PositiveInt = 8_000

    def statistics(self, meta: Params, histories: Histories) -> Params:
        if histories.n_items > self.max_items:
            raise DataError(
                f"{self.name} keeps items x items matrices and takes at most {self.max_items} "
                f"items, got a catalogue of {histories.n_items} (max_items sets the limit)"
            )
        fresh = freshness(histories, self.half_life_days)
        position = position_of_event(histories)
        inside = (position >= self.first_position) & (position < self.last_position)
        weight = fresh.repeat_interleave(histories.offsets.diff()) * inside
        prior = torch.zeros(histories.n_items, dtype=torch.float64)
        sums = {"prior": prior.index_add(0, histories.item, weight), "entities": fresh.sum()}
        for size in _SIZES:
            sums |= self._window_sums(histories, size)
        return sums

    def solve(self, meta: Params, sums: Params) -> Params:
        share = self.query_size / (self.last_position - self.first_position)
        prior = (share * sums["prior"] / sums["entities"].clamp(min=1e-12)).float()
        solved = [self._regression(sums, size) for size in _SIZES]
        return {
            "base": torch.stack([prior, *(prior - start @ weights for weights, start in solved)]),
            "weights": torch.stack([weights for weights, _ in solved]),
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        events = torch.tensor([size.events for size in _SIZES])
        decay = torch.tensor([size.decay for size in _SIZES])
        which = (support.mask.sum() >= events).sum()
        model = (which - 1).clamp(min=0)
        newest = support.mask & (support.age < events[model])
        x = decay[model] ** support.age * newest
        return {"scores": meta["base"][which] + x @ meta["weights"][model, support.index]}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return fast["scores"][candidates.index]

    def _window_sums(self, histories: Histories, size: Size) -> Params:
        n = histories.n_items
        first, offset, length = _windows(histories, size, self.window, self.query_size)
        decay = size.decay ** torch.arange(size.events - 1, -1, -1).float()
        xx, xy = torch.zeros(n * n), torch.zeros(n * n)
        x_sum, y_sum = torch.zeros(len(_EDGES) + 1, n), torch.zeros(len(_EDGES) + 1, n)
        weight = 1 / (1 + offset / size.fade)
        bucket = torch.bucketize(offset, torch.tensor(_EDGES))
        steps = self.window + torch.arange(self.query_size)
        for part in torch.arange(len(first)).split(_CHUNK):
            x = histories.item[first[part, None] + torch.arange(size.events)]
            real = steps < length[part, None]
            y = histories.item[(first[part, None] + steps).clamp(max=len(histories.item) - 1)]
            x_value, y_value = weight[part, None] * decay, weight[part, None] * real
            _add_outer(xx, x, x, x_value.unsqueeze(2) * decay)
            _add_outer(xy, x, y, x_value.unsqueeze(2) * real.unsqueeze(1))
            rows = bucket[part, None]
            x_sum.index_put_((rows.expand_as(x), x), x_value, accumulate=True)
            y_sum.index_put_((rows.expand_as(y), y), y_value, accumulate=True)
        total = torch.zeros(len(_EDGES) + 1).index_add(0, bucket, weight)
        found = {"xx": xx.view(n, n), "xy": xy.view(n, n), "x": x_sum, "y": y_sum, "w": total}
        return {f"{name}{size.events}": value for name, value in found.items()}

    def _regression(self, sums: Params, size: Size) -> tuple[Tensor, Tensor]:
        """Return the weights [I, I] and the mean support [I] of windows that start a history."""
        xx, xy, x, y, total = (sums[f"{name}{size.events}"] for name in ("xx", "xy", "x", "y", "w"))
        total = total.clamp(min=1e-12).unsqueeze(1)
        a, c = xx - x.T @ (x / total), xy - x.T @ (y / total)
        mass = xx.diagonal()
        even = torch.ones_like(mass)
        uneven = (mass / mass.mean().clamp(min=1e-12) + 0.05).sqrt()
        a = a + torch.diag(self.penalty * (even if size.even else uneven))
        weights = torch.cholesky_solve(c, torch.linalg.cholesky(a))
        return size.scale * weights, x[0] / total[0]


def _windows(
    histories: Histories, size: Size, window: int, query: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return first event, offset, length of each window; short histories give a short one."""
    lengths = histories.offsets.diff()
    last = (lengths - window - query).clamp(min=0, max=size.offsets)
    count = torch.where(lengths >= window + _FEW, last // _STEP + 1, 0)
    entity = torch.repeat_interleave(torch.arange(len(count)), count)
    within = torch.arange(len(entity)) - (count.cumsum(0) - count)[entity]
    offset = within * _STEP
    return histories.offsets[entity] + offset, offset, lengths[entity] - offset


def _add_outer(total: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> None:
    n = int(len(total) ** 0.5)
    where = rows.unsqueeze(2) * n + columns.unsqueeze(1)
    total.index_add_(0, where.flatten(), values.expand(where.shape).flatten())
