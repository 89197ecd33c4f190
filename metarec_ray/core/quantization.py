"""Vectors as 8-bit integers, each with its own scale: inner products at a quarter of the memory.

Knows rounding, and how far at most a product is off; does not know what the products are for.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

int_mm = torch.ops.aten._int_mm  # int8 x int8 -> int32; torch has no public name for it
LARGEST = 127
UNIT_ROUNDOFF = 2.0**-24  # at most so much of a number is lost when it is rounded to float32
PROBE = 64  # rows of the test whether this machine's sums of products overflow
SAMPLE = 2**14  # vectors that say where the centre is


class Queries(NamedTuple):
    """T vectors as two 8-bit digits an entry, to be multiplied with quantized vectors.

    A product with one of these is `Quantized.products` + shift; it, and whatever float32 makes of
    it in any order of its D terms, is off by `reach` x that vector's `error` at most, and by what
    is too small for float32.
    """

    digits: Tensor  # int8 [2 T, D]: all first digits, then all second ones
    unit: Tensor  # float32 [T, 1]
    shift: Tensor  # float64 [T]
    reach: Tensor  # float32 [T]


class Quantized(NamedTuple):
    """R vectors of D entries: entry = centre + scale x unit x value, rounded.

    `error` [R] bounds a vector's part of the error of a product with it (`Queries`).
    """

    value: Tensor  # int8 [R, D]
    unit: Tensor  # float32 [R]
    centre: Tensor  # float64 [D]
    scale: Tensor  # float64 [D]: powers of two
    error: Tensor  # float32 [R]

    def queries(self, vectors: Tensor) -> Queries:
        """Return float32 vectors [T, D] as what `products` multiplies."""
        # With one digit a query's rounding would weigh as much as these vectors'.
        wanted = vectors.double() * self.scale
        unit = wanted.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        unit = unit / LARGEST
        scaled = wanted / unit
        first = scaled.round()
        second = ((scaled - first) * (2 * LARGEST)).round()
        digits = torch.cat([first, second]).to(torch.int8)
        shift = vectors.double() @ self.centre
        return Queries(digits, unit.float(), shift, wanted.norm(dim=1).float())

    def products(self, queries: Queries, rows: slice) -> Tensor:
        """Return the inner products [T, rows] less shifts, float32."""
        # Both digits in one pass over these vectors. 32 bits hold sums of up to 2^17 products.
        value, digits = self.value[rows], queries.digits
        if len(digits) == 2:  # of one query; this way round it is faster
            one, two = int_mm(value, digits.T).T.split(1)
        else:
            one, two = int_mm(digits, value.T).split(len(digits) // 2)
        found = torch.add(one.float(), two, alpha=1 / (2 * LARGEST))
        return found.mul_(self.unit[rows]).mul_(queries.unit)


def quantize(vectors: Tensor) -> Quantized:
    """Return float32 vectors [R, D], quantized."""
    count, dim = vectors.shape
    # What all vectors share would take digits from what tells them apart, and so would columns
    # that vary much from those that vary little. Any centre is right, and any power of two, which
    # scales without rounding: some of the vectors say which are good.
    some = vectors[:: -(-count // SAMPLE)].double()
    centre, spread = some.mean(0), some.std(0, correction=0)
    scale = torch.where(spread > 0, torch.exp2(torch.log2(spread).floor()), 1.0)
    value = torch.empty(count, dim, dtype=torch.int8)
    unit, error = torch.empty(count), torch.empty(count)
    for rows in pieces(count, 2**12):
        given = vectors[rows].double() / scale
        wanted = given - centre / scale
        largest = wanted.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny * LARGEST)
        unit[rows] = (largest / LARGEST).float()
        step = unit[rows].double().unsqueeze(1)
        digits = (wanted / step).round_()
        value[rows] = digits.to(torch.int8)
        rounded = digits * step
        error[rows] = _error(given, wanted, rounded).float()
    return Quantized(value, unit, centre, scale, error)


def _error(given: Tensor, wanted: Tensor, rounded: Tensor) -> Tensor:
    """Return what bounds the errors of products with vectors [R, D], in queries' lengths, [R].

    By Cauchy-Schwarz: of the vector's rounding, of the query's, and of float32 in both ways to add
    the terms up.
    """
    dim = given.shape[1]
    of_vector = (wanted - rounded).norm(dim=1)
    held = rounded.norm(dim=1)
    # Entries of the query are off by half a second digit, of which its length has 127 x 254.
    of_query = math.sqrt(dim) / (4 * LARGEST**2) * held
    of_sums = rounding(dim) * (given.norm(dim=1) + held)
    return (of_vector + of_query + of_sums) * (1 + 64 * UNIT_ROUNDOFF)


def rounding(terms: int) -> float:
    """Return what share of sum(|terms|) a float32 sum of products may be off by, in any order.

    With some to spare, for what is done to the sum afterwards.
    """
    return (terms + 16) * UNIT_ROUNDOFF


def adds_up(width: int) -> bool:
    """Return whether this machine's products of `width` entries are exact.

    Processors without VNNI add pairs of products in 16 bits, which the largest pairs overflow.
    """
    largest = torch.full((PROBE, width), LARGEST, dtype=torch.int8)
    signs = torch.tensor([[1], [-1]], dtype=torch.int8)
    wanted = signs.int() * LARGEST**2 * width
    found = int_mm(signs * largest[:2], largest.T), int_mm(largest, (signs * largest[:2]).T).T
    return all(bool((one == wanted).all()) for one in found)


def pieces(count: int, size: int) -> list[slice]:
    """Return slices that cut `count` rows into parts of at most `size`.

    What is made of few stays in a cache.
    """
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]
