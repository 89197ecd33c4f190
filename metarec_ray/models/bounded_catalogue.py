"""Upper bounds of a head's scores for a whole catalogue, to find the few items that matter.

Knows what of a head depends on items alone, prepares it once, and how far its own scores are off;
does not know learners, requests or which items will be scored exactly.

Axes: T tasks, R items of the catalogue, D dimensions of an item's vector, H units of a layer.
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from metarec_ray.core.batch import Params
from metarec_ray.core.quantization import pieces, quantize, rounding
from metarec_ray.models.head import Head, Layer, head_of, layer_names
from metarec_ray.models.hidden_layers import error_of, outputs
from metarec_ray.models.upper_bounds import UpperBounds

SCORES = 2**18  # that are made at a time, over all tasks; measured
TINY = 2.0**-110  # more than sums of products lose where their terms are too small for float32


class _Matches(NamedTuple):
    """Products of T queries with items: of(rows) + shift, off by reach x error at most."""

    of: Callable[[slice], Tensor]
    """From rows to float32 [T, rows]."""
    shift: Tensor  # float64 [T]
    reach: Tensor  # float32 [T]
    error: Tensor  # float32 [R]


class BoundedCatalogue:
    """Items as heads that differ from task to task can score all of them.

    In low precision the product of user and item is one of 8-bit integers. Hidden layers are in
    float32 either way: a bound of what shorter numbers do to them tells few items apart.
    """

    def __init__(self, meta: Params, vector: Tensor, offset: Tensor, *, low: bool):
        """Take shared parameters, and the vectors [R, D] and offsets [R] of items, in float32."""
        self.dims = {n: meta[n].dim() for n in (*layer_names(meta), "offset.scale")}
        self.first_weight = meta.get("head.0.item")
        self.vector, self.offset, self.low = vector, offset, low
        self.largest_offset = offset.abs().max().item()
        self.quantized = quantize(vector) if low else None

    @cached_property
    def first(self) -> Tensor:
        """The items' part of a first layer that tasks share; made when it is first asked for."""
        assert self.first_weight is not None
        return self.vector @ self.first_weight

    @cached_property
    def length(self) -> Tensor:
        """The lengths of vectors, float32 [R]."""
        return self.vector.norm(dim=1).mul_(1 + rounding(self.vector.shape[1]))

    def bounds(self, head: Params, query: Tensor) -> UpperBounds:
        """Return bounds [T, R] of `head_score`, whatever items it is asked for together.

        Args:
            head: parameters; adapted ones [T, ...], those that tasks share without T.
            query: user + context [T, D].

        """
        dim, tasks = query.shape[-1], range(len(query))
        own = [head_of(self._of(head, task), dim) for task in tasks]
        value, shift = self._linear(query + head_of(head, dim).of_item, own)
        for task in tasks:
            scale, bias = abs(own[task].offset_scale.item()), own[task].bias.item()
            shift[task] += bias + rounding(0) * (scale * self.largest_offset + abs(bias)) + TINY
            if own[task].layers:
                shift[task] += self._add_hidden(value[task], own[task], query[task])
        return UpperBounds(value, shift)

    def _linear(self, query: Tensor, own: list[Head]) -> tuple[Tensor, Tensor]:
        """Return bounds of what tasks' scores are without bias and hidden layers, and shifts."""
        found = torch.empty(len(query), len(self.vector))
        matches = self._matches(query)
        for rows in pieces(len(self.vector), max(1, SCORES // len(query))):
            part = matches.of(rows)
            for value, head, reach in zip(part, own, matches.reach.tolist(), strict=True):
                value.add_(self.offset[rows], alpha=head.offset_scale.item())
                value.add_(matches.error[rows], alpha=reach)
            found[:, rows] = part
        return found, matches.shift

    def _matches(self, query: Tensor) -> "_Matches":
        vector, quantized = self.vector, self.quantized
        if quantized is not None:
            asked = quantized.queries(query)
            return _Matches(
                lambda rows: quantized.products(asked, rows),
                asked.shift,
                asked.reach,
                quantized.error,
            )
        # Once for these sums, and once for those that they are compared with.
        reach = 2 * rounding(query.shape[1]) * query.double().norm(dim=1)
        nothing = torch.zeros_like(reach)
        return _Matches(
            lambda rows: linear(query, vector[rows]), nothing, reach.float(), self.length
        )

    def _of(self, head: Params, task: int) -> Params:
        """Return the parameters of one task."""
        return {
            name: head[name][task] if head[name].dim() > dim else head[name]
            for name, dim in self.dims.items()
        }

    def _add_hidden(self, value: Tensor, head: Head, query: Tensor) -> float:
        """Add a bound of what hidden layers add to one task's scores [R]; return its constant."""
        assert head.user is not None
        (weight, bias), *above = head.layers
        moved = bias + query @ head.user
        if weight is self.first_weight:
            found = outputs(self.first, above, head.of_units, bias=moved)
        else:
            found = outputs(self.vector, [Layer(weight, moved), *above], head.of_units)
        value.add_(found)
        of_user = query.norm().item() * head.user.norm().item()
        # Once for these outputs, and once for those that they are compared with.
        error = error_of(head.layers, head.of_units, of_user).times(2)
        value.add_(self.length, alpha=torch.tensor(error.slope).item())
        return error.constant
