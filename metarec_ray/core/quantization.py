"""Vectors as 8-bit integers, each with its own scale: inner products at a quarter of the memory.

Knows rounding, and how far at most a product is off; does not know what the products are for.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

int_mm = torch.ops.aten._int_mm  # int8 x int8 -> int32; torch has no public name for it
LARGEST = 127
ULP = 2.0**-24  # at most so much of a number is lost when it is rounded to float32
PROBE = 64  # rows of the test whether this machine's sums of products overflow
SAMPLE = 2**14  # vectors that say where the centre is
ROWS = 2**16  # that are worked on at a time, so that what is made of them stays in a cache


class Products(NamedTuple):
    """Inner products of T queries with R vectors, nearly: value + shift.

    A product, and whatever adding its D terms up in float32 makes of it, is off by `reach` x the
    vector's `error` at most, and by what is too small for float32.
    """

    value: Tensor  # float32 [T, R]
    shift: Tensor  # float64 [T]
    reach: Tensor  # float32 [T]


class Quantized(NamedTuple):
    """R vectors of D entries: entry = centre + scale x unit x value, rounded.

    `error` [R] bounds a vector's part of the error of a product with it (`Products`).
    """

    value: Tensor  # int8 [R, D]
    unit: Tensor  # float32 [R]
    centre: Tensor  # float64 [D]
    scale: Tensor  # float64 [D]: powers of two
    error: Tensor  # float32 [R]

    def products(self, queries: Tensor) -> Products:
        """Return the inner products with `queries`, float32 [T, D]."""
        # A query has two digits: with one, its rounding would weigh as much as the vectors'. Both
        # are multiplied with the vectors in one pass over these.
        wanted = queries.double() * self.scale
        unit = wanted.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST
        scaled = wanted / unit.unsqueeze(1)
        first = scaled.round()
        digits = torch.cat([first, ((scaled - first) * (2 * LARGEST)).round()]).to(torch.int8)
        tasks = len(queries)
        found = torch.empty(tasks, len(self.value))
        for rows in _pieces(len(self.value), ROWS):
            # 32 bits hold sums of up to 2^17 products exactly.
            one, two = self._integers(digits, rows).split(tasks)
            part = torch.add(one.float(), two, alpha=1 / (2 * LARGEST))
            part.mul_(self.unit[rows])
            torch.mul(part, unit.float().unsqueeze(1), out=found[:, rows])
        return Products(found, queries.double() @ self.centre, wanted.norm(dim=1).float())

    def _integers(self, digits: Tensor, rows: slice) -> Tensor:
        if len(digits) == 2:  # of one query; this way round it is faster
            return int_mm(self.value[rows], digits.T).T
        return int_mm(digits, self.value[rows].T)


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
    for rows in _pieces(count, 2**12):
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
    return (of_vector + of_query + of_sums) * (1 + 64 * ULP)


def rounding(terms: int) -> float:
    """Return what share of sum(|terms|) a float32 sum of products may be off by, in any order.

    With some to spare, for what is done to the sum afterwards.
    """
    return (terms + 16) * ULP


def adds_up(width: int) -> bool:
    """Return whether this machine's products of `width` entries are exact.

    Processors without VNNI add pairs of products in 16 bits, which the largest pairs overflow.
    """
    largest = torch.full((PROBE, width), LARGEST, dtype=torch.int8)
    signs = torch.tensor([[1], [-1]], dtype=torch.int8)
    wanted = signs.int() * LARGEST**2 * width
    found = int_mm(signs * largest[:2], largest.T), int_mm(largest, (signs * largest[:2]).T).T
    return all(bool((one == wanted).all()) for one in found)


def _pieces(count: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]
