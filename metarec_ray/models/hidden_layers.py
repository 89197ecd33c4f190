"""A head's hidden layers over a whole catalogue: piece by piece, and how far float32 is off.

Knows layers of relu(x @ weight + bias); does not know users, or what the outputs are added to.

Axes: R items, H inputs of a layer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.quantization import rounding
from metarec_ray.models.head import Layer

PIECE_BYTES = 2**18  # of a layer's units; measured


def outputs(
    start: Tensor, layers: Sequence[Layer], last: Tensor, *, bias: Tensor | None = None
) -> Tensor:
    """Return units @ last [R], of the units that layers make of `start` [R, H].

    With `bias` [H] the units of a lowest layer, relu(start + bias), are made of it first.
    """
    found = start.new_empty(len(start))
    size = max(1, PIECE_BYTES // (4 * start.shape[1]))
    for first in range(0, len(found), size):
        units = start[first : first + size]
        if bias is not None:
            units = torch.add(units, bias).relu_()
        for weight, own in layers:
            units = torch.addmm(own, units, weight).relu_()
        torch.mv(units, last, out=found[first : first + size])
    return found


class Growth(NamedTuple):
    """At most slope x |x| + constant, of an item's vector x."""

    slope: float
    constant: float

    def times(self, factor: float) -> "Growth":
        return Growth(factor * self.slope, factor * self.constant)

    def plus(self, other: "Growth") -> "Growth":
        return Growth(self.slope + other.slope, self.constant + other.constant)


def error_of(layers: Sequence[Layer], last: Tensor, of_user: float) -> Growth:
    """Return what bounds the error of outputs, added up in float32 in any order.

    A layer lengthens its input, and an error of it, by the length of its weights at most, and relu
    lengthens nothing. Sums of products add an error of their own, in proportion to their terms.

    Args:
        layers: all, the one that reads items' vectors first.
        last: weights of the units of the last.
        of_user: the length of what the first layer makes of the user, term by term.

    """
    units, error = Growth(1.0, 0.0), Growth(0.0, 0.0)
    for weight, bias in layers:
        lengthening = weight.norm().item()
        constant = Growth(0.0, bias.norm().item() + of_user)
        terms = units.plus(error).times(lengthening).plus(constant)
        units = units.times(lengthening).plus(constant)
        error = error.times(lengthening).plus(terms.times(rounding(len(weight))))
        of_user = 0.0
    own = units.plus(error).times(rounding(len(last)))
    return error.plus(own).times(last.norm().item())
