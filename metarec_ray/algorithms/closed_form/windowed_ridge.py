"""Windowed ridge: ridge regression of the query items on the support's k items, over windows.

Knows item rows, their order and times, and features of users and items. A task is a window of a
training history: x is the bag of its first k items, older ones decayed, with the user's features
and the items' content; y is the bag of the items that follow the whole window. For each of a few k,
there is one ridge regression of y on x, of X columns (items, user features, content) by I items.
"""

from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, Fitting, Problem, StatisticalLearner
from metarec_ray.algorithms.closed_form.windowed_sums import (
    Design,
    event_weights,
    narrow_columns,
    narrow_features,
    window_sums,
)
from metarec_ray.algorithms.sums import check_positions, freshness, position_weight
from metarec_ray.core.batch import Encoded, Params, SideInformation
from metarec_ray.core.histories import Histories
from metarec_ray.errors import DataError

_UNCLOCKED = float("nan")
_LEAST = 0.002  # added to scores, so that no item has probability 0


class Size(NamedTuple):
    """The regression for supports of at least `design.events` events, fewer than the next size's.

    Attributes:
        design: how it turns a support into a vector, and which windows it is fitted on.
        penalty: relative to the learner's.
        even: whether the penalty is the same for every column; if not, rare ones have a lower one.
        scale: of what the support and the user add to the prior.
        alone: share of a regression on the user alone in that sum; this one has the rest.

    """

    design: Design
    penalty: float
    even: bool
    scale: float
    alone: float


_SIZES = (
    Size(Design(1, 1.0, _UNCLOCKED, 58, 3.0, content=0.3), 3.0, True, 1.0, 0.5),
    Size(Design(3, 0.7, 0.5, 58, 3.0, content=0.2), 1.0, False, 1.0, 0.0),
    Size(Design(5, 0.7, 0.5, 58, 3.0, content=0.4), 1.0, False, 1.25, 0.0),
    Size(Design(10, 0.85, 0.6, 398, 20.0, content=0.2), 0.6, True, 1.5, 0.0),
)


class WindowedRidge(StatisticalLearner):
    """A linear in-context learner: ridge regression of later events on the support, over windows.

    A score estimates how likely the item is among the query events. An empty support gives the
    prior: how often entities that began recently met the item after their first events, moved by
    the user's features. A support between two sizes uses the regression of the smaller size, on as
    many of its newest events. Fields of more than 64 columns are left out. Needs memory for eight
    items x items matrices during the fit and for four afterwards.

    Attributes:
        window: events between the start of a task and its query.
        query_size: events of the query.
        penalty: of the regressions.
        half_life_days: of the prior, as in `RecencyPopularity`.
        first_position: earlier events of an entity count almost nothing in the prior.
        last_position: events from here on count almost nothing either.
        max_items: largest catalogue that is accepted.

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
        content, by_content = narrow_features(histories.items), meta.pop("content")
        for row, size in enumerate(_SIZES):
            meta["weights"][row] += size.design.content * content @ by_content[row]
        _unknown_is_average(meta["users"], meta.pop("user_mean"), histories.users)
        return meta | {"user_columns": narrow_columns(histories.users)}

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
            found = window_sums(histories, size.design, window=self.window, query=self.query_size)
            sums |= {f"{name}{size.design.events}": value for name, value in found.items()}
        return sums

    def solve(self, meta: Params, sums: Params) -> Params:
        share = self.query_size / (self.last_position - self.first_position)
        prior = (share * sums["prior"] / sums["entities"].clamp(min=1e-12)).float()
        first = _equations(sums, _SIZES[0])
        n, p = len(prior), first["u"].shape[1]
        user = slice(n, n + p)
        # On the windows of the smallest size, without their supports.
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
        designs = [size.design for size in _SIZES]
        events = torch.tensor([design.events for design in designs])
        which = (support.mask.sum() >= events).sum()
        row = (which - 1).clamp(min=0)
        weights = event_weights(
            support.time,
            support.age,
            support.mask & (support.age < events[row]),
            decay=torch.tensor([design.decay for design in designs])[row],
            by_second=torch.tensor([design.by_second for design in designs])[row],
        )
        user = support.user[meta["user_columns"]] @ meta["users"][which]
        return {
            "scores": meta["base"][which] + user + weights @ meta["weights"][row, support.index]
        }

    def log_share(self, scores: Tensor) -> Tensor:
        return torch.log(scores.clamp(min=0) + _LEAST)


def _equations(sums: Params, size: Size) -> Params:
    return {name: sums[f"{name}{size.design.events}"] for name in ("xx", "xy", "x", "u", "y", "w")}


def _part(equations: Params, columns: slice) -> Params:
    """Return the normal equations of some columns of x."""
    return equations | {
        "xx": equations["xx"][columns, columns],
        "xy": equations["xy"][columns],
        "x": equations["x"][:, columns],
    }


def _ridge(equations: Params, penalty: float, *, even: bool) -> tuple[Tensor, Tensor]:
    """Return the weights [X, I] and the mean x [X] of windows that start a history.

    x and y are centred within each bucket of offsets. A column that is always 0 gets weight 0.
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
    """If no training user had a field's unknown value, give it the weights of the mean user.

    Args:
        weights: [*, P, I] of user features, changed in place.
        mean: [P], of the features.
        users: their fields.

    """
    row = {column: row for row, column in enumerate(narrow_columns(users).tolist())}
    for field in users.fields:
        if field.categorical and field.first in row and mean[row[field.first]] == 0:
            rows = slice(row[field.first], row[field.first] + field.end - field.first)
            total = mean[rows].sum().clamp(min=1e-12)
            weights[:, rows.start] = mean[rows] @ weights[:, rows] / total
