"""Losses of support sets as descent needs them: their slopes, and how slopes turn with the scores.

Knows scores [T, 1, M] of T tasks and what each event's loss counts, 0 on padding; does not know
what scored them. A slope is the derivative of a set's weighted sum of losses with respect to a
score; `hessian_product` is the Hessian of that sum times a change of scores [Pearlmutter, 1994,
doi:10.1162/neco.1994.6.1.147]. What a slope does not depend on is computed once.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metarec_ray.core import losses


class Curvature(Protocol):
    """A loss of the scores of T tasks."""

    def slope(self, scores: Tensor) -> Tensor:
        """Return the derivative of the loss with respect to each score."""
        ...

    def hessian_product(self, scores: Tensor, change: Tensor) -> Tensor:
        """Return the derivative of `slope` along a change of the scores."""
        ...


class Squared:
    """The squared error of labels (explicit feedback)."""

    def __init__(self, label: Tensor, weight: Tensor):
        """Take labels and weights [T, M]."""
        self.label, self.weight = label.unsqueeze(1), 2 * weight.unsqueeze(1)

    def slope(self, scores: Tensor) -> Tensor:
        return (scores - self.label).mul_(self.weight)

    def hessian_product(self, scores: Tensor, change: Tensor) -> Tensor:
        return change * self.weight


class Logistic:
    """The cross-entropy of labels in 0..1, scores being log-odds (binary feedback)."""

    def __init__(self, label: Tensor, weight: Tensor):
        """Take labels and weights [T, M]."""
        self.label, self.weight = label.unsqueeze(1), weight.unsqueeze(1)

    def slope(self, scores: Tensor) -> Tensor:
        return (torch.sigmoid(scores) - self.label).mul_(self.weight)

    def hessian_product(self, scores: Tensor, change: Tensor) -> Tensor:
        likely = torch.sigmoid(scores)
        return likely * (1 - likely) * self.weight * change


class Choice:
    """The softmax of each of N positives against R reference items, scored after them.

    The loss of a positive p is log(e^p + e^r) - p, where e^r is the sum over its rivals' scores,
    less the logarithm of their probability to have been sampled (implicit feedback).
    """

    def __init__(self, weight: Tensor, competes: Tensor, log_q: Tensor):
        """Take weights [T, N], bool [T, N, R], False where a rival is the positive, and [R]."""
        self.weight, self.log_q = weight.unsqueeze(1), log_q
        self.rivals, self.competes = competes, competes.to(weight.dtype)

    def slope(self, scores: Tensor) -> Tensor:
        at = self._at(scores)
        return torch.cat([-at.lost, (at.lost * at.scale) @ self.competes * at.odds], -1)

    def hessian_product(self, scores: Tensor, change: Tensor) -> Tensor:
        at = self._at(scores)
        positives, others = self._split(change)
        # How the rivals of a positive move together, and with them what it loses.
        along = at.scale * ((at.odds * others) @ self.competes.mT)
        turned = at.turns * (along - positives)
        moved = (at.scale * (turned - at.lost * along)) @ self.competes
        held = (at.scale * at.lost) @ self.competes
        return torch.cat([-turned, (moved + held * others) * at.odds], -1)

    def _split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        positives, others = values.split([self.weight.shape[-1], len(self.log_q)], -1)
        return positives, others

    def _at(self, scores: Tensor) -> "_Choosing":
        positives, others = self._split(scores)
        others = others - self.log_q
        top = others.amax(-1, keepdim=True)
        rivals = losses.competing(others.squeeze(1), self.rivals).unsqueeze(1)
        likely = torch.sigmoid(rivals - positives)
        lost = self.weight * likely
        return _Choosing(
            lost=lost,
            turns=lost * (1 - likely),
            odds=torch.exp(others - top),
            scale=torch.exp(top - rivals),
        )


class _Choosing(NamedTuple):
    """What scores say of choices."""

    lost: Tensor  # [T, 1, N]: weight times the probability of another choice
    turns: Tensor  # [T, 1, N]: its derivative along the rivals' scores
    odds: Tensor  # [T, 1, R]: of each rival against the likeliest
    scale: Tensor  # [T, 1, N]: odds of a rival times this is its share among a positive's rivals
