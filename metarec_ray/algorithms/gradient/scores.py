"""What adapted heads of T tasks give autograd: scores, and how far their weights have come.

Both are single operations to autograd, whose derivatives are by hand. Knows parts and what is cut
for them; does not know the model's parameters, nor who asks.

Axes: T tasks, M rows that are scored.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from metarec_ray.algorithms.gradient.answer import Answer, PartGradients
from metarec_ray.algorithms.gradient.cuts import (
    TABLES,
    Cut,
    add_to_tables,
    of_column,
    part_inputs,
    sum_of,
)
from metarec_ray.algorithms.gradient.part import Part
from metarec_ray.core.batch import Params
from metarec_ray.core.fast.rows import Gradients, plus

EVERY = slice(None)


class Descents(NamedTuple):
    """The descents of T tasks, by parts."""

    order: Tensor  # int64 [T]: tasks as they stand in parts
    parts: list[Part]
    cuts: list[Cut]
    places: Tensor  # int64 [T, M], in order: what tasks learn from, rows of a table

    def score(self, places: Tensor, weights: Params, own: Params, asked: Params) -> Tensor:
        """Return the scores [T, M] of other rows.

        Args:
            places: int64 [T, M] in order, or [M] for all tasks: rows of the table.
            weights: that tasks share, and rates with "rates." before their names, as in `Head`.
            own: what was read, as in `part_inputs`; nothing, where it is not differentiated.
            asked: what is read of the rows; without tables, those of `own` are meant.

        """
        inputs = (weights, own, asked)
        names = [list(part) for part in inputs]
        return _Scores.apply(self, places, names, *(v for part in inputs for v in part.values()))

    def distance(self, changes: "Changes", before: Params) -> Tensor:
        """Return half the squared distance [T] that weights have come from those `before`.

        Its derivative, with respect to these, takes the changed ones for constants.
        """
        return _Distance.apply(self, changes, list(before), *before.values())


Changes = Callable[[Part, Cut], Params]
"""Return what a part added to weights, [T, ...], by their names."""


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, descents: Descents, places: Tensor, names: list[list[str]], *values: Tensor
    ) -> Tensor:
        ctx.descents, ctx.places, ctx.names = descents, places, names
        ctx.shapes = [value.shape for value in values]
        _, own, asked = _named(names, values)
        tables = {name: own[name] for name in TABLES if name in own}
        found = values[0].new_empty(len(descents.order), places.shape[-1])
        with torch.inference_mode():
            ctx.answers = []
            for part, cut in zip(descents.parts, descents.cuts, strict=True):
                inputs = part_inputs(tables | asked, places, cut._replace(rows=EVERY))
                ctx.answers.append(Answer(part, inputs))
            scores = torch.cat([answer.scores.squeeze(1) for answer in ctx.answers])
            return found.index_copy_(0, descents.order, scores)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        descents: Descents = ctx.descents
        weights, own, asked = _named(ctx.names, ctx.shapes)
        slope = slope.index_select(0, descents.order).unsqueeze(1)
        of_own, of_asked = (
            {n: slope.new_zeros(of[n]) for n in TABLES if n in of} for of in (own, asked)
        )
        cuts = [cut._replace(rows=EVERY) for cut in descents.cuts]
        found: list[PartGradients] = []
        with torch.inference_mode():
            for answer, cut, every in zip(ctx.answers, descents.cuts, cuts, strict=True):
                found.append(answer.back(slope[cut.tasks]))
                add_to_tables(found[-1].own, of_own, descents.places, cut)
                add_to_tables(found[-1].asked, of_asked or of_own, ctx.places, every)
        # Made anew out here, where autograd may have them.
        gradients = [sum_of([part.weights.get(name) for part in found]) for name in weights]
        gradients += _of_columns([part.own for part in found], own, of_own, descents.cuts)
        gradients += _of_columns([part.asked for part in found], asked, of_asked, cuts)
        return None, None, None, *gradients


class _Distance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, descents: Descents, changes: Changes, names: list[str], *values: Tensor
    ) -> Tensor:
        ctx.descents, ctx.changes, ctx.names = descents, changes, names
        found = []
        for part, cut in zip(descents.parts, descents.cuts, strict=True):
            squares = [(c**2).reshape(len(c), -1).sum(1) for c in changes(part, cut).values()]
            found.append(torch.stack(squares).sum(0) / 2)
        return torch.cat(found)[descents.order.argsort()]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        descents: Descents = ctx.descents
        slope = slope[descents.order]
        found: Gradients = dict.fromkeys(ctx.names)
        # Formed anew for each part: together they would be all weights of all tasks.
        for part, cut in zip(descents.parts, descents.cuts, strict=True):
            for name, change in ctx.changes(part, cut).items():
                found[name] = plus(found[name], -torch.tensordot(slope[cut.tasks], change, 1))
        return None, None, None, *found.values()


def _named(names: list[list[str]], values: Any) -> list[dict[str, Any]]:
    rest = iter(values)
    return [{name: next(rest) for name in part} for part in names]


def _of_columns(
    found: list[Gradients], shapes: dict[str, torch.Size], tables: Params, cuts: list[Cut]
) -> list[Tensor | None]:
    return [
        tables[name] if name in tables else of_column(name, found, shape, cuts)
        for name, shape in shapes.items()
    ]
