"""Vectors as 8-bit integers, each with its own scale: inner products at a quarter of the memory.

Knows rounding; does not know what the products are for. The error of an entry is at most half a
unit: 1/254 of the largest entry of its vector.
"""

from typing import NamedTuple

import torch
from torch import Tensor

int_mm = torch.ops.aten._int_mm  # int8 x int8 -> int32; torch has no public name for it
LARGEST = 127
PROBE = 64  # rows of the test whether this machine's sums of products overflow


class Quantized(NamedTuple):
    """R vectors of D entries: entry = value x unit, rounded."""

    value: Tensor  # int8 [R, D]
    unit: Tensor  # float32 [R]

    def products(self, others: "Quantized") -> Tensor:
        """Return the inner products of each of these vectors with each of the others, [R, O]."""
        # 32 bits hold sums of up to 2^17 products exactly.
        found = int_mm(self.value, others.value.T).float()
        return found.mul_(others.unit).mul_(self.unit.unsqueeze(1))


def quantize(vectors: Tensor) -> Quantized:
    """Return float vectors [R, D], quantized."""
    largest = vectors.abs().amax(1).clamp(min=torch.finfo(vectors.dtype).tiny * LARGEST)
    unit = largest / LARGEST
    return Quantized((vectors / unit.unsqueeze(1)).round_().to(torch.int8), unit)


def adds_up(width: int) -> bool:
    """Return whether this machine's products of `width` entries are exact.

    Processors without VNNI add pairs of products in 16 bits, which the largest pairs overflow.
    """
    largest = torch.full((PROBE, width), LARGEST, dtype=torch.int8)
    signs = torch.tensor([[1], [-1]], dtype=torch.int8)
    found = int_mm(signs * largest[:2], largest.T)
    return bool((found == signs.int() * LARGEST**2 * width).all())
