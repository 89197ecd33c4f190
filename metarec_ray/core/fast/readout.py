"""The last layer, one score a row, and the way back through its descent.

Its weights are few, [T, 1, K], and always formed. What is a column elsewhere is a row here: the
product of a matrix and a vector is quicker that way round. What the way back is, `factored` says.

Axes: T tasks, M rows that it learns from, Q rows that it is asked about, K inputs of a kind of rows
that are the same in every step, H hidden units.
"""

import torch
from torch import Tensor

from metarec_ray.core.fast.rows import Rate, Rows, descended, of_rate, path_to, plus, stepped, times


class Readout:
    """Scores [T, 1, M] of rows of several kinds, of hidden units, and a bias."""

    def __init__(
        self,
        kinds: list[Rows],
        weights: list[Tensor],
        hidden: Tensor | None,
        bias: Tensor,
        rates: list[Rate],
        *,
        kept: bool,
    ):
        """Take the weights [T or 1, 1, K] of each kind and [1, 1, H] of the units, if there are.

        `rates` are those of the kinds, of the units and of the bias [1, 1, 1]. There is no way back
        but to what was asked, unless the descent is `kept`.
        """
        tasks = len(kinds[0].rows)
        *self.rates, self.hidden_rate, self.bias_rate = rates
        self.kinds, self.kept = kinds, kept
        self.path = [[weight.expand(tasks, -1, -1) for weight in weights]]
        self.hidden = [] if hidden is None else [hidden.expand(tasks, -1, -1)]
        self.biases = [bias]
        self.read: list[Rows | None] = []
        self.slopes: list[Tensor] = []

    def outputs(self, given: Tensor, read: Rows | None) -> Tensor:
        """Return the scores of rows that have these units, on top of what is `given` [T, 1, M]."""
        return self._scores(given, self.path[-1], self.kinds, read)

    def back(self, slope: Tensor) -> Tensor:
        """Return the slopes [T, M, H] at the units."""
        return slope.mT * self.hidden[-1]

    def step(self, read: Rows | None, slope: Tensor) -> None:
        """Descend, given the slopes at the scores."""
        kinds = zip(self.path[-1], self.rates, self.kinds, strict=True)
        weights = [descended(weight, rate, slope, kind.rows) for weight, rate, kind in kinds]
        self.path = path_to(self.path, weights, kept=self.kept)
        if read is not None:
            hidden = descended(self.hidden[-1], self.hidden_rate, slope, read.rows)
            self.hidden = path_to(self.hidden, hidden, kept=self.kept)
        bias = stepped(self.biases[-1], self.bias_rate, slope.sum(-1, keepdim=True))
        self.biases = path_to(self.biases, bias, kept=self.kept)
        if self.kept:
            self.read.append(read)
            self.slopes.append(slope)

    def ask(
        self, given: Tensor, kinds: list[Rows], weights: list[Tensor], read: Rows | None
    ) -> Tensor:
        """Return the scores of other rows, which other weights scored before descent."""
        self.asked, self.asked_read = kinds, read
        ways = zip(weights, self.path[-1], self.path[0], strict=True)
        self.asked_weights = [weight + (last - first) for weight, last, first in ways]
        return self._scores(given, self.asked_weights, kinds, read)

    def begin(self, slope: Tensor) -> Tensor | None:
        """Begin the way back from what was asked; return the slopes at the asked units."""
        self.asked_slope = slope
        self.of_asked_weights = [torch.bmm(slope, kind.rows) for kind in self.asked]
        self.of_weights = self.of_asked_weights
        self.of_bias = slope.sum(-1, keepdim=True)
        self.of_rates: list[Tensor | None] = [None for _ in (*self.rates, 0, 0)]
        self._pulls: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in self.kinds]
        if self.asked_read is None:
            return None
        self.of_hidden = torch.bmm(slope, self.asked_read.rows)
        return self.back(slope)

    def tangent(self, step: int, moved: Tensor | None) -> Tensor:
        """Return how the scores move; `moved` [T, M, H] is how the units do."""
        ways = zip(self.of_weights, self.rates, strict=True)
        self._headings = [adjoint * -rate for adjoint, rate in ways]
        found = self.of_bias * -self.bias_rate
        for heading, kind in zip(self._headings, self.kinds, strict=True):
            found = torch.baddbmm(found, heading, kind.columns)
        read = self.read[step]
        if read is not None and moved is not None:
            self._hidden_heading = self.of_hidden * -self.hidden_rate
            found.baddbmm_(self._hidden_heading, read.columns)
            found.baddbmm_(self.hidden[step], moved.mT)
        return found

    def pull(self, step: int, back: Tensor) -> Tensor | None:
        """Return the gradient of the units of a step, given how its slopes move."""
        slope = self.slopes[step]
        ways = zip(self._pulls, self.path[step], self._headings, strict=True)
        for (slopes, weights), weight, heading in ways:
            slopes += [back, slope]
            weights += [weight, heading]
        if self.read[step] is None:
            return None
        return (back.mT * self.hidden[step]).addcmul_(slope.mT, self._hidden_heading)

    def add(self, step: int, moved: Tensor | None, back: Tensor) -> None:
        """Pass a step."""
        slope, read = self.slopes[step], self.read[step]
        if not isinstance(self.bias_rate, float):
            self._add_rates(slope, read)
        ways = zip(self.of_weights, self.kinds, strict=True)
        self.of_weights = [torch.baddbmm(adjoint, back, kind.rows) for adjoint, kind in ways]
        if read is not None and moved is not None:
            self.of_hidden.baddbmm_(back, read.rows)
            self.of_hidden.baddbmm_(slope, moved)
        self.of_bias = self.of_bias + back.sum(-1, keepdim=True)

    def of_rows(self, kind: int, onto: Tensor | None) -> Tensor:
        """Return the gradients of the rows of a kind, added to `onto` in place."""
        slopes, weights = (torch.cat(parts, 1) for parts in self._pulls[kind])
        return times(slopes.mT, weights, onto)

    def of_asked(self, kind: int, onto: Tensor | None) -> Tensor:
        """Return the gradients of the asked rows of a kind, added to `onto` in place."""
        slope, weights = self.asked_slope.mT, self.asked_weights[kind]
        return slope * weights if onto is None else onto.addcmul_(slope, weights)

    def changes(self) -> tuple[Tensor, Tensor]:
        """Return what was added to all weights [T, 1, P], the units' first, and to the bias."""
        ways = zip(self.path[-1], self.path[0], strict=True)
        item, *units = (last - first for last, first in ways)
        if self.hidden:
            units = [self.hidden[-1] - self.hidden[0]]
        return torch.cat([*units, item], -1), self.biases[-1] - self.biases[0]

    def _add_rates(self, slope: Tensor, read: Rows | None) -> None:
        ways = zip(self.of_weights, self.kinds, strict=True)
        found = [of_rate(adjoint, slope, kind.rows).unsqueeze(0) for adjoint, kind in ways]
        units = None if read is None else of_rate(self.of_hidden, slope, read.rows).unsqueeze(0)
        bias = -(self.of_bias * slope.sum(-1, keepdim=True)).sum(0, keepdim=True)
        both = zip(self.of_rates, [*found, units, bias], strict=True)
        self.of_rates = [known if more is None else plus(known, more) for known, more in both]

    def _scores(
        self, given: Tensor, weights: list[Tensor], kinds: list[Rows], read: Rows | None
    ) -> Tensor:
        found = given + self.biases[-1]
        for weight, kind in zip(weights, kinds, strict=True):
            found.baddbmm_(weight, kind.columns)
        if read is not None:
            found.baddbmm_(self.hidden[-1], read.columns)
        return found
