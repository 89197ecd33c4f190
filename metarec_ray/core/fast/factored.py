"""Layers known by what they learned from, and the way back through their descent.

The gradient of an affine map is X'S, for the rows X that it reads and the slopes S of the loss at
its outputs. Fast weights W - r X'S need not be formed: other rows Y make YW - r(Y X')S of them. Nor
need v, their adjoint, the derivative of a later loss with respect to them: where D are the slopes
of what Y was scored for, v is Y'D, and Xv is (X Y')D. Time and memory grow with rows, not with
weights.

The way back through a step of descent is v - r Hv, with the Hessian H of the loss descended
[Pearlmutter, 1994, doi:10.1162/neco.1994.6.1.147]: as the weights move along -r v, `tangent`s are
how outputs move; slopes then move by `back`, and X'back + (how X moves)'S is -r Hv. Of the rows
themselves, back W' and -r S v' are the gradient.

The last step comes first; in each, `tangent`, `pull` and `add` are called in this order, and `add`
changes v. What a layer reads may come in pieces: columns of a row that have weights of their own.

Axes: T tasks, M rows that a layer learns from, Q rows that it is asked about, K inputs, H outputs.
"""

import torch
from torch import Tensor

from metarec_ray.core.fast.rows import Rows, flat, plus, shared_product, times


class Dual:
    """A layer that reads the same rows in every step: the sum of all slopes tells its weights.

    Outputs move by the Gram matrix of the rows. Of what is alike in all rows of a task nothing is
    known but the number `alike` [T, 1, 1] that it adds to the product of any two.
    """

    def __init__(
        self, start: Tensor, rows: list[Rows], alike: Tensor, rate: float, *, second_order: bool
    ):
        """Take the outputs before the first step [T, M, H] and rows [T, M, K] of each piece.

        Without `second_order` there is a way back to what was asked alone.
        """
        self.start, self.rows, self.alike, self.rate = start, rows, alike, rate
        self.second_order = second_order
        self.slopes: list[Tensor] = []
        self.sum: Tensor | None = None
        self._known_gram: Tensor | None = None

    def outputs(self) -> Tensor:
        """Return the outputs [T, M, H] on the rows: before the first step `start` itself."""
        return self.start if self.sum is None else self._moved(self.start, self.sum)

    def step(self, slope: Tensor) -> None:
        """Descend, given the slopes at the outputs."""
        if self.second_order:
            self.slopes.append(slope)
        self.sum = plus(self.sum, slope)

    def ask(self, start: Tensor, rows: list[Rows], alike: Tensor) -> Tensor:
        """Return the outputs on other rows [T, Q, K], written to `start`, those before descent."""
        assert self.sum is not None
        self.asked, self.asked_alike = rows, alike
        self.cross = _products(rows, self.rows).add_(alike)
        return start.baddbmm_(self.cross, self.sum, alpha=-self.rate)

    def begin(self, slope: Tensor) -> None:
        """Begin the way back, given the slopes [T, Q, H] of what was asked."""
        assert self.sum is not None
        self.of_asked_start = slope
        scaled = slope * -self.rate
        self.share = torch.bmm(scaled, self.sum.mT)
        self.begun = torch.bmm(self.cross.mT, scaled)
        self.of_start: Tensor | None = None
        self._of_gram: Tensor | None = None

    def tangent(self, step: int) -> Tensor:
        """Return how the outputs move; not to be written to."""
        return self.begun if self.of_start is None else self._moved(self.begun, self.of_start)

    def add(self, step: int, back: Tensor) -> None:
        """Pass a step, given how slopes at its outputs move."""
        if self.of_start is not None:
            self._of_gram = times(self.of_start, self.slopes[step].mT, self._of_gram)
        self.of_start = plus(self.of_start, back)

    def of_rows(self) -> list[Tensor]:
        """Return the gradients of the rows by what was learned from them."""
        found = [torch.bmm(self.share.mT, asked.rows) for asked in self.asked]
        if self._of_gram is not None:
            both = (self._of_gram + self._of_gram.mT).mul_(-self.rate)
            found = [bar.baddbmm_(both, r.rows) for bar, r in zip(found, self.rows, strict=True)]
        return found

    def of_alike(self) -> Tensor:
        """Return the gradient of `alike` [T, 1, 1]."""
        if self._of_gram is None:
            return torch.zeros_like(self.alike)
        return self._of_gram.sum((-1, -2), keepdim=True).mul_(-self.rate)

    def of_asked(self) -> list[Tensor]:
        """Return the gradients of the asked rows by what was learned."""
        return [torch.bmm(self.share, r.rows) for r in self.rows]

    def of_asked_alike(self) -> Tensor:
        return self.share.sum_to_size(self.asked_alike.shape)

    def of_rates(self) -> list[Tensor | None]:
        """Return none: the one rate is not learned."""
        return [None for _ in self.rows]

    def changes(self) -> list[Tensor]:
        """Return what was added to the weights [T, K, H] of each piece."""
        assert self.sum is not None
        return [torch.bmm(r.columns, self.sum).mul_(-self.rate) for r in self.rows]

    def total(self) -> Tensor:
        """Return the sum of all slopes [T, 1, H]."""
        assert self.sum is not None
        return self.sum.sum(-2, keepdim=True)

    def _moved(self, outputs: Tensor, total: Tensor) -> Tensor:
        # Nobody asks for the Gram matrix where there is but one step.
        if self._known_gram is None:
            self._known_gram = _products(self.rows, self.rows).add_(self.alike)
        return torch.baddbmm(outputs, self._known_gram, total, alpha=-self.rate)


class LowRank:
    """A layer that reads other rows in every step, known by the rows and slopes of all steps."""

    def __init__(self, weights: Tensor, bias: Tensor, rate: float):
        """Take weights [K, H] and biases [H] that all tasks share."""
        self.weights, self.bias, self.rate = weights, bias, rate
        self.read: list[Rows] = []
        self.slopes: list[Tensor] = []

    def outputs(self, read: Rows) -> Tensor:
        """Return the outputs [T, M, H] on rows."""
        found = torch.addmm(self.bias, flat(read.rows), self.weights)
        found = found.view(*read.rows.shape[:-1], -1)
        self.crosses = [torch.bmm(read.rows, seen.columns).add_(1) for seen in self.read]
        for cross, slope in zip(self.crosses, self.slopes, strict=True):
            found.baddbmm_(cross, slope, alpha=-self.rate)
        return found

    def back(self, slope: Tensor) -> Tensor:
        """Return the slopes at the rows, given those at the outputs."""
        self.scaled = slope * -self.rate
        self.shares = [torch.bmm(self.scaled, known.mT) for known in self.slopes]
        found = shared_product(slope, self.weights.mT)
        for share, seen in zip(self.shares, self.read, strict=True):
            found.baddbmm_(share, seen.rows)
        return found

    def step(self, read: Rows, slope: Tensor) -> None:
        """Descend, given the slopes at the outputs on rows."""
        self.read.append(read)
        self.slopes.append(slope)

    def ask(self, read: Rows) -> Tensor:
        """Return the outputs on other rows."""
        self.asked = read
        return self.outputs(read)

    def begin(self, slope: Tensor) -> Tensor:
        """Begin the way back from what was asked; return the slopes at the asked rows."""
        self.asked_slope = slope
        # Of v, what the way back added: rows, slopes, and whether the rows are how rows move.
        self._added: list[tuple[Tensor, Tensor, bool]] = []
        return self.back(slope)

    def tangent(self, step: int, moved: Tensor | None) -> Tensor:
        """Return how the outputs move; `moved` [T, M, K] is how the rows do, None for not."""
        found = torch.bmm(self.crosses[step].mT, self.scaled)
        if moved is not None:
            flat(found).addmm_(flat(moved), self.weights)
            for seen, slope in zip(self.read[:step], self.slopes[:step], strict=True):
                found.baddbmm_(torch.bmm(moved, seen.columns), slope, alpha=-self.rate)
        for rows, back, are_moves in self._added:
            cross = torch.bmm(self.read[step].rows, rows.mT)
            # A bias reads 1, which does not move.
            found.baddbmm_(cross if are_moves else cross.add_(1), back, alpha=-self.rate)
        return found

    def pull(self, step: int, back: Tensor) -> Tensor:
        """Return the gradient of the rows of a step, given how its slopes move."""
        found = torch.bmm(self.shares[step].mT, self.asked.rows)
        flat(found).addmm_(flat(back), self.weights.mT)
        for seen, known in zip(self.read[:step], self.slopes[:step], strict=True):
            found.baddbmm_(torch.bmm(back, known.mT), seen.rows, alpha=-self.rate)
        for rows, known, _ in self._added:
            found.baddbmm_(torch.bmm(self.slopes[step], known.mT), rows, alpha=-self.rate)
        return found

    def add(self, step: int, moved: Tensor | None, back: Tensor) -> None:
        """Pass a step."""
        self._added.append((self.read[step].rows, back, False))
        if moved is not None:
            self._added.append((moved, self.slopes[step], True))

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Return the gradients of weights and biases, summed over tasks."""
        weights = flat(self.asked.rows).T @ flat(self.asked_slope)
        biases = self.asked_slope.sum((0, 1))
        for rows, back, are_moves in self._added:
            weights.addmm_(flat(rows).T, flat(back))
            if not are_moves:
                biases += back.sum((0, 1))
        return weights, biases

    def of_rates(self) -> list[Tensor | None]:
        """Return none: the one rate is not learned."""
        return [None, None]

    def changes(self) -> tuple[Tensor, Tensor]:
        """Return what was added to weights [T, K, H] and biases [T, 1, H]."""
        pairs = list(zip(self.read, self.slopes, strict=True))
        weights = torch.stack([torch.bmm(read.columns, slope) for read, slope in pairs]).sum(0)
        biases = torch.stack(self.slopes).sum((0, -2)).unsqueeze(-2)
        return -self.rate * weights, -self.rate * biases


def _products(left: list[Rows], right: list[Rows]) -> Tensor:
    """Return the sum over pieces of the products [T, Q, M] of rows."""
    (one, other), *rest = zip(left, right, strict=True)
    total = torch.bmm(one.rows, other.columns)
    for one, other in rest:
        total.baddbmm_(one.rows, other.columns)
    return total
