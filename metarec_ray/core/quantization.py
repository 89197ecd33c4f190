"""Vectors as 8-bit integers, each in a unit of its own: products at a quarter of the memory.

Knows rounding; does not know what the products are for. An entry is off by at most half a unit,
1/254 of its vector's largest.
"""

from typing import NamedTuple

import torch
from torch import Tensor

int_mm = torch.ops.aten._int_mm  # int8 x int8 -> int32; torch has no public name for it
LARGEST = 127
PROBE = 64  # rows that show whether sums of products fit this machine's registers


class Quantized(NamedTuple):
    """R vectors of D entries: entry = value x unit, rounded."""

    value: Tensor  # int8 [R, D]
    unit: Tensor  # float32 [R]

    def products(self, others: "Quantized") -> Tensor:
        """Return the inner products of each of these vectors with each of the others, [R, O]."""
        # Sums of products are exact, in 32 bits, for up to 2^17 entries.
        found = int_mm(self.value, others.value.T).float()
        return found.mul_(others.unit).mul_(self.unit.unsqueeze(1))


def quantize(vectors: Tensor) -> Quantized:
    """Return float vectors [R, D] as integers."""
    largest = vectors.abs().amax(1).clamp(min=torch.finfo(vectors.dtype).tiny * LARGEST)
    unit = largest / LARGEST
    return Quantized((vectors / unit.unsqueeze(1)).round_().to(torch.int8), unit)


def adds_up(width: int) -> bool:
    """Return whether this machine's products of `width` entries are exact.

    Processors without VNNI add pairs of products in 16 bits, where the largest do not fit.
    """
    largest = torch.full((PROBE, width), LARGEST, dtype=torch.int8)
    signs = torch.tensor([[1], [-1]], dtype=torch.int8)
    found = int_mm(signs * largest[:2], largest.T)
    return bool((found == signs.int() * LARGEST**2 * width).all())
