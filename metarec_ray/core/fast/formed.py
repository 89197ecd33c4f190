"""Layers that form the weights of every task, and the way back through their descent.

For rows that are many beside the weights, and for rates of single weights. What the way back is,
`factored` says; here v stands in memory as well.

Axes: T tasks, M rows that a layer learns from, Q rows that it is asked about, K inputs, H outputs.
"""

import torch
from torch import Tensor

from metarec_ray.core.fast.rows import (
    Rate,
    Rows,
    descended,
    headed,
    path_to,
    plus,
    rate_gradient,
    shared_product,
    stepped,
    times,
)


class FullRank:
    """A layer that reads other rows in every step; its methods are those of `LowRank`."""

    def __init__(
        self, weights: Tensor, bias: Tensor, rates: tuple[Rate, Rate], *, second_order: bool
    ):
        """Take weights [K, H] and biases [H] that all tasks share, and the rates of both.

        Without `second_order` there is a way back to what was asked alone.
        """
        self.rate, self.bias_rate = rates
        self.second_order, self.weights, self.biases = second_order, [weights], [bias]
        self.read: list[Rows] = []
        self.slopes: list[Tensor] = []
        self.totals: list[Tensor] = []

    def outputs(self, read: Rows) -> Tensor:
        weights, bias = self.weights[-1], self.biases[-1]
        if weights.dim() == 2:
            return shared_product(read.rows, weights).add_(bias)
        return torch.baddbmm(bias, read.rows, weights)

    def back(self, slope: Tensor) -> Tensor:
        return _product(slope, self.weights[-1].mT)

    def step(self, read: Rows, slope: Tensor) -> None:
        total = slope.sum(-2, keepdim=True)
        weights = descended(self.weights[-1], self.rate, read.columns, slope)
        self.weights = path_to(self.weights, weights, second_order=self.second_order)
        bias = stepped(self.biases[-1], self.bias_rate, total)
        self.biases = path_to(self.biases, bias, second_order=self.second_order)
        if self.second_order:
            self.read.append(read)
            self.slopes.append(slope)
            self.totals.append(total)

    def ask(self, read: Rows) -> Tensor:
        self.asked = read
        return self.outputs(read)

    def begin(self, slope: Tensor) -> Tensor:
        self.of_weights = torch.bmm(self.asked.columns, slope)
        self.of_bias = slope.sum(-2, keepdim=True)
        self._of_rates: list[Tensor | None] = [None, None]
        return self.back(slope)

    def tangent(self, step: int, moved: Tensor | None) -> Tensor:
        self._heading, self._length = headed(self.of_weights, self.rate)
        rows = self.read[step].rows
        if moved is None:
            found = torch.bmm(rows, self._heading).mul_(self._length)
        else:
            found = _product(moved, self.weights[step])
            found.baddbmm_(rows, self._heading, alpha=self._length)
        return found.sub_(self.bias_rate * self.of_bias)

    def pull(self, step: int, back: Tensor) -> Tensor:
        found = _product(back, self.weights[step].mT)
        return found.baddbmm_(self.slopes[step], self._heading.mT, alpha=self._length)

    def add(self, step: int, moved: Tensor | None, back: Tensor) -> None:
        columns, slope = self.read[step].columns, self.slopes[step]
        if not isinstance(self.rate, float):
            of_bias = -(self.of_bias * self.totals[step]).sum((0, 1))
            of_both = rate_gradient(self.of_weights, columns, slope), of_bias
            self._of_rates = [plus(*pair) for pair in zip(self._of_rates, of_both, strict=True)]
        self.of_weights.baddbmm_(columns, back)
        if moved is not None:
            self.of_weights.baddbmm_(moved.mT, slope)
        self.of_bias += back.sum(-2, keepdim=True)

    def gradients(self) -> tuple[Tensor, Tensor]:
        return self.of_weights.sum(0), self.of_bias.sum((0, 1))

    def of_rates(self) -> list[Tensor | None]:
        """Return the gradients of the rates of weights and biases."""
        return self._of_rates

    def changes(self) -> tuple[Tensor, Tensor]:
        return self.weights[-1] - self.weights[0], self.biases[-1] - self.biases[0]


class Primal:
    """A layer that reads the same rows in every step; its methods are those of `Dual`.

    What was added to the weights of each piece stands in memory.
    """

    def __init__(self, start: Tensor, rows: list[Rows], alike: Tensor, rates: list[Rate]):
        """Take what `Dual` takes; the last of the rates is that of `alike`, [T, 1, 1 or H] here."""
        *self.rates, self.alike_rate = rates
        self.start, self.rows, self.alike = start, rows, alike
        self.slopes: list[Tensor] = []
        self.totals = [start.new_zeros(len(start), 1, start.shape[-1])]
        self.path = [[start.new_zeros(*r.columns.shape[:2], start.shape[-1]) for r in rows]]

    def outputs(self) -> Tensor:
        if not self.slopes:
            return self.start
        return self._with_changes(self.start - self._alike(self.alike), self.rows)

    def step(self, slope: Tensor) -> None:
        self.slopes.append(slope)
        self.totals.append(self.totals[-1] + slope.sum(-2, keepdim=True))
        ways = zip(self.path[-1], self.rates, self.rows, strict=True)
        self.path.append([descended(change, rate, r.columns, slope) for change, rate, r in ways])

    def ask(self, start: Tensor, rows: list[Rows], alike: Tensor) -> Tensor:
        self.asked, self.asked_alike = rows, alike
        return self._with_changes(start.sub_(self._alike(alike)), rows)

    def begin(self, slope: Tensor) -> None:
        self.of_asked_start = slope
        self.of_weights = [torch.bmm(asked.columns, slope) for asked in self.asked]
        # How outputs move by what is alike in all rows, with the sign turned.
        self._lean = self.alike_rate * (self.asked_alike * slope).sum(-2, keepdim=True)
        self.of_start: Tensor | None = None
        self._of_rows: list[Tensor | None] = [None for _ in self.rows]
        self._of_alike = torch.zeros_like(self.alike)
        self._of_rates: list[Tensor | None] = [None for _ in self.rates]

    def tangent(self, step: int) -> Tensor:
        ways = zip(self.of_weights, self.rates, strict=True)
        self._headings = [headed(adjoint, rate) for adjoint, rate in ways]
        found = (-self._lean).repeat(1, self.start.shape[1], 1)
        for (heading, length), r in zip(self._headings, self.rows, strict=True):
            found.baddbmm_(r.rows, heading, alpha=length)
        return found

    def add(self, step: int, back: Tensor) -> None:
        slope = self.slopes[step]
        for n, (heading, length) in enumerate(self._headings):
            bar = times(back, self.path[step][n].mT, self._of_rows[n])
            self._of_rows[n] = bar.baddbmm_(slope, heading.mT, alpha=length)
            columns = self.rows[n].columns
            if not isinstance(self.rates[n], float):
                more = rate_gradient(self.of_weights[n], columns, slope)
                self._of_rates[n] = plus(self._of_rates[n], more)
            self.of_weights[n].baddbmm_(columns, back)
        total = back.sum(-2, keepdim=True)
        of_alike = self.alike_rate * total * self.totals[step]
        self._of_alike = self._of_alike - of_alike.sum_to_size(self.alike.shape)
        self._lean = self._lean + self.alike_rate * self.alike * total
        self.of_start = plus(self.of_start, back)

    def of_rows(self) -> list[Tensor]:
        return [bar for bar in self._of_rows if bar is not None]

    def of_alike(self) -> Tensor:
        return self._of_alike

    def of_asked(self) -> list[Tensor]:
        return [torch.bmm(self.of_asked_start, change.mT) for change in self.path[-1]]

    def of_asked_alike(self) -> Tensor:
        found = -self.alike_rate * self.of_asked_start * self.totals[-1]
        return found.sum_to_size(self.asked_alike.shape)

    def of_rates(self) -> list[Tensor | None]:
        """Return the gradients of the rates of each piece."""
        return self._of_rates

    def changes(self) -> list[Tensor]:
        return self.path[-1]

    def total(self) -> Tensor:
        return self.totals[-1]

    def _alike(self, alike: Tensor) -> Tensor:
        return self.alike_rate * alike * self.totals[-1]

    def _with_changes(self, outputs: Tensor, rows: list[Rows]) -> Tensor:
        for piece, change in zip(rows, self.path[-1], strict=True):
            outputs.baddbmm_(piece.rows, change)
        return outputs


def _product(rows: Tensor, weights: Tensor) -> Tensor:
    """Return the products with weights of each task, or with those that all share."""
    return shared_product(rows, weights) if weights.dim() == 2 else torch.bmm(rows, weights)
