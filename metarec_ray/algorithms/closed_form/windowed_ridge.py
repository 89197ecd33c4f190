"""Windowed ridge: from the first k events straight to what the next ones will be, in closed form.

Knows item rows, their order and times, and what is known of users and items. A task is a window of
a training history: x is the bag of its first k items, older ones decayed, with the user's features
and the items' content; y is the bag of the items that follow the whole window. One ridge regression
of y on x a k, X columns (items, user features, content) by I items.
"""

from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, Fitting, Params, Problem, StatisticalLearner
from metarec_ray.algorithms.closed_form.windowed_sums import (
    Reading,
    described,
    description,
    event_weights,
    window_sums,
)
from metarec_ray.algorithms.sums import check_positions, freshness, position_weight
from metarec_ray.core.batch import Encoded, SideInformation
from metarec_ray.core.histories import Histories
from metarec_ray.errors import DataError

_UNCLOCKED = float("nan")
_LEAST = 0.002  # chance of an item that the scores give none


class Size(NamedTuple):
    """What reads a support of at least `reading.events` events, fewer than the next size's.

    Attributes:
        reading: of supports, and the windows it is fitted over.
        penalty: against the learner's.
        even: the same penalty for every column; otherwise rare ones are penalised less.
        scale: of what the support and the user add to the prior.
        alone: share of the regression on the user alone in that sum.

    """

    reading: Reading
    penalty: float
    even: bool
    scale: float
    alone: float


_SIZES = (
    Size(Reading(1, 1.0, _UNCLOCKED, 58, 3.0, content=0.3), 3.0, True, 1.0, 0.5),
    Size(Reading(3, 0.7, 0.5, 58, 3.0, content=0.2), 1.0, False, 1.0, 0.0),
    Size(Reading(5, 0.7, 0.5, 58, 3.0, content=0.4), 1.0, False, 1.25, 0.0),
    Size(Reading(10, 0.85, 0.6, 398, 20.0, content=0.2), 0.6, True, 1.5, 0.0),
)


class WindowedRidge(StatisticalLearner):
    """A linear in-context learner: ridge regression of later events on the support, over windows.

    Scores estimate how likely an item is among the query events. An empty support gives the prior,
    how often entities that began lately met the item after their first events, moved by what is
    known of the user. A support between two sizes is read by the smaller one's regression, its
    newest events only. Fields of more than 64 columns are not read. Keeps eight items x items
    matrices while it is fitted and four of them afterwards.

    Attributes:
        window: events between the start of a task and its query.
        query_size: events of the query.
        penalty: of the regressions.
        half_life_days: of the prior, as in `RecencyPopularity`.
        first_position: earlier events of an entity count next to nothing in the prior.
        last_position: so do those from here on.
        max_items: the largest catalogue that is fitted.

    """

    name: Literal["windowed_ridge"] = "windowed_ridge"
    kind: ClassVar = "learner"
    suits: ClassVar = ("implicit",)
    window: Annotated[int, Field(ge=10)] = 10
    query_size: PositiveInt = 10
    penalty: PositiveFloat = 100.0
    half_life_days: PositiveFloat = 83.0
    first_position: NonNegativeInt = 5
    last_position: PositiveInt = 25
    max_items: PositiveInt = 8_000

    @model_validator(mode="after")
    def _positions_are_some(self) -> "WindowedRidge":
        check_positions(self.first_position, self.last_position)
        return self

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        meta = super().fit(histories, fitting)
        content, by_content = description(histories.items), meta.pop("content")
        for row, size in enumerate(_SIZES):
            meta["weights"][row] += size.reading.content * content @ by_content[row]
        _unknown_is_average(meta["users"], meta.pop("user_mean"), histories.users)
        return meta | {"user_columns": described(histories.users)}

    def statistics(self, meta: Params, histories: Histories) -> Params:
        if histories.n_items > self.max_items:
            raise DataError(
                f"{self.name} keeps items x items matrices and takes at most {self.max_items} "
                f"items, got a catalogue of {histories.n_items} (max_items sets the limit)"
            )
        fresh = freshness(histories, self.half_life_days)
        weight = position_weight(histories, self.first_position, self.last_position)
        weight *= fresh.repeat_interleave(histories.lengths())
        prior = torch.zeros(histories.n_items, dtype=torch.float64)
        sums = {"prior": prior.index_add(0, histories.item, weight), "entities": fresh.sum()}
        for size in _SIZES:
            found = window_sums(histories, size.reading, window=self.window, query=self.query_size)
            sums |= {f"{name}{size.reading.events}": value for name, value in found.items()}
        return sums

    def solve(self, meta: Params, sums: Params) -> Params:
        share = self.query_size / (self.last_position - self.first_position)
        prior = (share * sums["prior"] / sums["entities"].clamp(min=1e-12)).float()
        first = _equations(sums, _SIZES[0])
        n, p = len(prior), first["u"].shape[1]
        user = slice(n, n + p)
        # Windows and penalty of the smallest size, its support left out.
        alone, mean = _ridge(_part(first, user), self.penalty, even=True)
        solved, base = [], [prior - mean @ alone]
        for size in _SIZES:
            equations = _equations(sums, size)
            weights, start = _ridge(equations, size.penalty * self.penalty, even=size.even)
            weights *= size.scale * (1 - size.alone)
            weights[user] += size.scale * size.alone * alone
            base.append(prior - start @ weights)
            solved.append(weights)
        return {
            "base": torch.stack(base),
            "weights": torch.stack([weights[:n] for weights in solved]),
            "users": torch.stack([alone, *(weights[user] for weights in solved)]),
            "content": torch.stack([weights[n + p :] for weights in solved]),
            "user_mean": mean,
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        readings = [size.reading for size in _SIZES]
        events = torch.tensor([reading.events for reading in readings])
        which = (support.mask.sum() >= events).sum()
        row = (which - 1).clamp(min=0)
        weights = event_weights(
            support.time,
            support.age,
            support.mask & (support.age < events[row]),
            decay=torch.tensor([reading.decay for reading in readings])[row],
            by_second=torch.tensor([reading.by_second for reading in readings])[row],
        )
        user = support.user[meta["user_columns"]] @ meta["users"][which]
        return {
            "scores": meta["base"][which] + user + weights @ meta["weights"][row, support.index]
        }

    def log_share(self, scores: Tensor) -> Tensor:
        return torch.log(scores.clamp(min=0) + _LEAST)


def _equations(sums: Params, size: Size) -> Params:
    return {name: sums[f"{name}{size.reading.events}"] for name in ("xx", "xy", "x", "u", "y", "w")}


def _part(equations: Params, columns: slice) -> Params:
    """Return the normal equations of some columns of x."""
    return equations | {
        "xx": equations["xx"][columns, columns],
        "xy": equations["xy"][columns],
        "x": equations["x"][:, columns],
    }


def _ridge(equations: Params, penalty: float, *, even: bool) -> tuple[Tensor, Tensor]:
    """Return the weights [X, I] and the mean x [X] of windows that start a history.

    Means of each bucket of offsets are taken out of x and y. A column that was never met gets no
    weight.
    """
    xx, x, y = equations["xx"], equations["x"], equations["y"]
    centre = x / equations["w"].clamp(min=1e-12).unsqueeze(1)
    met = xx.diagonal() > 0
    mass = xx.diagonal()[met]
    r = torch.ones_like(mass) if even else (mass / mass.mean() + 0.05).sqrt()
    a = (xx - x.T @ centre)[met][:, met] + torch.diag(penalty * r)
    weights = torch.zeros_like(equations["xy"])
    right = (equations["xy"] - centre.T @ y)[met]
    weights[met] = torch.cholesky_solve(right, torch.linalg.cholesky(a))
    return weights, centre[0]


def _unknown_is_average(weights: Tensor, mean: Tensor, users: SideInformation) -> None:
    """Give the unknown value of a field, where nobody had it, what its mean user gets.

    Args:
        weights: [*, P, I] of user features, changed in place.
        mean: [P], the features' mean.
        users: which fields they are of.

    """
    row = {column: row for row, column in enumerate(described(users).tolist())}
    for field in users.fields:
        if field.categorical and field.first in row and mean[row[field.first]] == 0:
            rows = slice(row[field.first], row[field.first] + field.end - field.first)
            total = mean[rows].sum().clamp(min=1e-12)
            weights[:, rows.start] = mean[rows] @ weights[:, rows] / total
