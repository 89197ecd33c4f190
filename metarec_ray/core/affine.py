"""Affine maps that learn by gradient descent, of T tasks at once, without autograd.

Knows inputs, slopes of a loss and rates; does not know what loss, nor what stands between maps.

The gradient of an affine map is X'S, for its inputs X and the slopes S of the loss at its outputs.
Fast weights need not be formed: W - r X'S is known by its factors, and is applied to other rows Y
in whichever order costs less, (Y X')S or Y(X'S). A row that all events of a task share, as their
user's, is a rank-one part of X X', and a bias adds 1 to it.

Axes: T tasks, M rows of a task, K inputs, H outputs.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from metarec_ray.core.batch import Params

Inputs = dict[str, Tensor | None]
"""What the weights of a map multiply, by the name of the weights.

Weights are [K, H] and rows [T, M, K], or [T, 1, K] where the rows of a task are alike, or [M, K]
where all tasks share them. None stands for ones: the weights are a bias [1, H].
"""
Rates = float | Params
"""One rate of all weights, or of each the rates of all its entries [K, H]."""


def outputs(weights: Params, inputs: Inputs) -> Tensor:
    """Return the outputs [T, M, H] of a map; weights may have a leading T."""
    terms = [
        weights[n] if rows is None else _applied(rows, weights[n]) for n, rows in inputs.items()
    ]
    # The smaller ones first: they are added to the large one in one pass.
    terms.sort(key=Tensor.numel)
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class FastMap(Protocol):
    """A map of T tasks between two steps of descent."""

    def outputs(self, inputs: Inputs) -> Tensor:
        """Return the outputs [T, M, H] on the rows that the map learns from."""
        ...

    def back(self, name: str, slope: Tensor) -> Tensor:
        """Return the slopes at the inputs of the weights `name`, given those at the outputs."""
        ...

    def step(self, inputs: Inputs, slope: Tensor) -> None:
        """Descend the loss that has these slopes [T, M, H] at the outputs on `inputs`."""
        ...

    def at(self, inputs: Inputs) -> Tensor:
        """Return the outputs on other rows."""
        ...

    def weights(self) -> Params:
        """Return the weights [T, K, H] of the tasks."""
        ...

    def shifting(self, weights: Params) -> "FastMap":
        """Return the map that adds what was learned, as a constant, to `weights`."""
        ...

    def distance(self, weights: Params) -> Tensor:
        """Return half the squared distance [T] that the weights have come.

        Its derivative with respect to `weights`, the values at the start, takes the fast weights
        for constants.
        """
        ...


class LowRank:
    """Weights that are known by what was learned from: X and S of every step.

    Memory and time grow with rows and steps, never with K times H.
    """

    def __init__(self, weights: Params, rate: float, learned: list[tuple[Inputs, Tensor]]):
        self.base, self.rate, self.learned = weights, rate, learned

    def outputs(self, inputs: Inputs) -> Tensor:
        return self.at(inputs)

    def back(self, name: str, slope: Tensor) -> Tensor:
        total = _back(self.base[name], slope)
        for inputs, seen in self.learned:
            rows = inputs[name]
            assert rows is not None
            total = total - self.rate * (slope @ seen.mT) @ rows
        return total

    def step(self, inputs: Inputs, slope: Tensor) -> None:
        self.learned = [*self.learned, (inputs, slope)]

    def at(self, inputs: Inputs) -> Tensor:
        value = outputs(self.base, inputs)
        for seen, slopes in self.learned:
            value = value - self.rate * _learned_outputs(inputs, seen, slopes)
        return value

    def weights(self) -> Params:
        fast = dict(self.base)
        for inputs, slope in self.learned:
            for name, rows in inputs.items():
                fast[name] = fast[name] - self.rate * _gradient(rows, slope)
        return fast

    def shifting(self, weights: Params) -> "LowRank":
        return LowRank({n: weights[n] for n in self.base}, self.rate, self.learned)

    def distance(self, weights: Params) -> Tensor:
        own = {n: weights[n] for n in self.base}
        along, square = [], []
        for inputs, slope in self.learned:
            ways = [_learned_outputs(inputs, seen, other) for seen, other in self.learned]
            along.append((slope * outputs(own, inputs)).sum((-1, -2)))
            square.append((slope * torch.stack(ways).sum(0)).sum((-1, -2)))
        along, square = torch.stack(along).sum(0), torch.stack(square).sum(0)
        return _pulled(self.rate * along, self.rate**2 * square)


class Dual(LowRank):
    """Weights whose inputs are the same in every step: the sum of all slopes tells them.

    The outputs on these inputs move by the inputs' Gram matrix [T, M, M].
    """

    def __init__(self, weights: Params, rate: float, inputs: Inputs, gram: Callable[[], Tensor]):
        super().__init__(weights, rate, [])
        self.inputs, self.gram = inputs, gram
        self.now, self.pending = outputs(weights, inputs), None

    def outputs(self, inputs: Inputs) -> Tensor:
        # Not before it is asked for: nobody asks after the last step.
        if self.pending is not None:
            self.now = torch.baddbmm(self.now, self.gram(), self.pending, alpha=-self.rate)
            self.pending = None
        return self.now

    def step(self, inputs: Inputs, slope: Tensor) -> None:
        before = [total for _, total in self.learned]
        self.learned = [(self.inputs, slope + before[0] if before else slope)]
        self.pending = slope


class Held:
    """Weights that stand in memory, [T, K, H] after a step."""

    def __init__(self, weights: Params, rates: Rates, fast: Params | None = None):
        self.base, self.rates = weights, rates
        self.fast = weights if fast is None else fast

    def outputs(self, inputs: Inputs) -> Tensor:
        return outputs(self.fast, inputs)

    def back(self, name: str, slope: Tensor) -> Tensor:
        return _back(self.fast[name], slope)

    def step(self, inputs: Inputs, slope: Tensor) -> None:
        self.fast = {n: self._stepped(n, rows, slope) for n, rows in inputs.items()}

    def at(self, inputs: Inputs) -> Tensor:
        return outputs(self.fast, inputs)

    def weights(self) -> Params:
        return self.fast

    def shifting(self, weights: Params) -> "Held":
        own = {n: weights[n] for n in self.base}
        fast = {n: w + (self.fast[n] - self.base[n]).detach() for n, w in own.items()}
        return Held(own, self.rates, fast)

    def distance(self, weights: Params) -> Tensor:
        away = {n: (self.base[n] - fast).detach() for n, fast in self.fast.items()}
        along = [(weights[n] * by).sum((-1, -2)) for n, by in away.items()]
        square = [(by**2).sum((-1, -2)) for by in away.values()]
        return _pulled(torch.stack(along).sum(0), torch.stack(square).sum(0))

    def _stepped(self, name: str, rows: Tensor | None, slope: Tensor) -> Tensor:
        fast = self.fast[name]
        wide = rows is not None and rows.shape[-2] > 1 and slope.shape[-1] > 1
        if isinstance(self.rates, float) and rows is not None and wide:
            return torch.baddbmm(fast, rows.mT, slope, alpha=-self.rates)
        rate = self.rates[name] if isinstance(self.rates, dict) else self.rates
        return fast - rate * _gradient(rows, slope)


def gram(inputs: Inputs, squares: dict[int, Tensor]) -> Tensor:
    """Return XX' [T, M, M] of all inputs side by side; `squares` keeps those of single ones."""
    total, ones = None, 0
    for rows in inputs.values():
        if rows is None:
            ones = 1
            continue
        if id(rows) not in squares:
            squares[id(rows)] = rows @ rows.mT
        total = squares[id(rows)] if total is None else total + squares[id(rows)]
    assert total is not None
    return total + ones


def _pulled(along: Tensor, square: Tensor) -> Tensor:
    """Return half of `square`, with the derivative of `along`."""
    return along + (square / 2 - along).detach()


def _applied(rows: Tensor, weights: Tensor) -> Tensor:
    """Return rows W; of one column as sums, which a batch of such products is slower than."""
    if weights.shape[-1] > 1 or rows.dim() == 2:
        return rows @ weights
    return (rows * weights.mT).sum(-1, keepdim=True)


def _back(weights: Tensor, slope: Tensor) -> Tensor:
    """Return slope W'; an outer product is no matrix product."""
    return slope * weights.mT if slope.shape[-1] == 1 else slope @ weights.mT


def _gradient(rows: Tensor | None, slope: Tensor) -> Tensor:
    """Return X'S [T, K, H]."""
    if rows is None:
        return slope.sum(-2, keepdim=True)
    if rows.shape[-2] == 1:
        slope = slope.sum(-2, keepdim=True)
    return (slope.mT @ rows).mT if slope.shape[-1] == 1 else rows.mT @ slope


def _learned_outputs(inputs: Inputs, seen: Inputs, slopes: Tensor) -> Tensor:
    """Return Y X'S, the sum over all inputs."""
    m, h = slopes.shape[-2:]
    alike, terms = None, []
    for name, rows in inputs.items():
        known = seen[name]
        if known is None or rows is None:
            alike = 1.0 if alike is None else alike + 1.0
        elif known.shape[-2] == 1:
            product = rows @ known.mT
            alike = product if alike is None else alike + product
        elif rows.shape[-2] * m * (rows.shape[-1] + h) <= rows.shape[-1] * h * (m + rows.shape[-2]):
            terms.append((rows @ known.mT) @ slopes)
        elif rows.dim() == 2 and h == 1:
            terms.append(((known.mT @ slopes).squeeze(-1) @ rows.T).unsqueeze(-1))
        else:
            terms.append(rows @ (known.mT @ slopes))
    if alike is not None:
        terms.append(alike * slopes.sum(-2, keepdim=True))
    return sum(terms[1:], start=terms[0])
