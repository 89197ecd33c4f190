"""The prior of a linear head, tracked over tasks: mean by a Kalman filter, covariance by EM.

Knows what tasks say of their weights, in the order in which they come; does not know events, items
or users. Axes: B tasks of a block, P weights.

    w_t ~ N(mean, spread)             the weights of task t
    y_t ~ N(X_t w_t, scale D_t^-1)    its labels, with known relative precisions D_t

Given the spread, task t says of the mean what a measurement with the information J says,
J = (A^-1 + spread)^-1 with A = X'DX / scale: the Kalman filter of a constant, or recursive least
squares, whose forgetting factor [Ljung & Soderstrom, 1983] makes it follow a mean that moves. The
spread and the scale are running means of what the posteriors expect them to be: online EM [Cappe &
Moulines, 2009, arXiv:0712.4273] of a model with random effects [Laird & Ware, 1982]. Computes in
float64.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Evidence(NamedTuple):
    """What the events of B tasks say of their weights, before the scale."""

    gram: Tensor  # float64 [B, P, P]: X'DX
    pull: Tensor  # float64 [B, P]: X'Dy
    squares: Tensor  # float64 [B]: y'Dy
    events: Tensor  # float64 [B]

    def at(self, tasks: Tensor | slice) -> "Evidence":
        """Return the evidence of some of the tasks."""
        return Evidence(*(column[tasks] for column in self))


class Sums(NamedTuple):
    """Sums over the tasks that came, in which each later task makes the earlier ones weigh less."""

    information: Tensor  # [P, P]: about the mean
    pull: Tensor  # [P]: information x mean
    scatter: Tensor  # [P, P]: expected (w - mean) (w - mean)'
    tasks: Tensor  # []
    squares: Tensor  # []: expected squared errors, each times its D
    events: Tensor  # []


class TaskPrior(NamedTuple):
    """The prior of a task's weights as it is known after some tasks.

    Attributes:
        mean: [P].
        uncertainty: covariance [P, P] of the mean.
        spread: covariance [P, P] of tasks around the mean.
        scale: [], variance of a label with D = 1.

    """

    mean: Tensor
    uncertainty: Tensor
    spread: Tensor
    scale: Tensor

    @property
    def covariance(self) -> Tensor:
        """Return the covariance [P, P] of a new task's weights around `mean`."""
        return self.spread + self.uncertainty


class Tracker(NamedTuple):
    """The prior, and what it becomes with the next tasks.

    Attributes:
        start: the prior before any task.
        prior_tasks: tasks, and events, that the start's spread and scale count for.
        forgetting: weight of a task relative to the next one, in (0, 1].
        sums: over the tasks so far.
        prior: after them.

    """

    start: TaskPrior
    prior_tasks: float
    forgetting: float
    sums: Sums
    prior: TaskPrior

    def update(self, evidence: Evidence) -> "Tracker":
        """Return the tracker after B more tasks, oldest first.

        What is expected of them is expected under the spread and scale before them and the mean
        after them. So with forgetting 1, one update by all tasks is one step of EM for the
        restricted likelihood; updates of a task each are its recursive form.
        """
        size = len(evidence.events)
        ages = torch.arange(size - 1, -1, -1, dtype=torch.float64)
        weight, kept = self.forgetting**ages, self.forgetting**size
        told = _told(evidence, self.prior)
        information = kept * self.sums.information + _added(weight, told.information)
        pull = kept * self.sums.pull + weight @ told.pull
        uncertainty = torch.linalg.inv(torch.linalg.inv(self.start.uncertainty) + information)
        uncertainty = (uncertainty + uncertainty.mT) / 2
        mean = uncertainty @ pull
        prior = self.prior._replace(mean=mean, uncertainty=uncertainty)
        scatter, squares = _expected(evidence, told, prior)
        sums = Sums(
            information,
            pull,
            kept * self.sums.scatter + _added(weight, scatter),
            kept * self.sums.tasks + weight.sum(),
            kept * self.sums.squares + weight @ squares,
            kept * self.sums.events + weight @ evidence.events,
        )
        n = self.prior_tasks
        spread = (n * self.start.spread + sums.scatter) / (n + sums.tasks)
        scale = (n * self.start.scale + sums.squares) / (n + sums.events)
        return self._replace(sums=sums, prior=TaskPrior(mean, uncertainty, spread, scale))


def tracker(spread: Tensor, *, prior_tasks: float, forgetting: float) -> Tracker:
    """Return the tracker before any task: mean 0, as unsure as a task's weights, and scale 1."""
    spread = spread.double()
    zero, none = spread.new_zeros(()), spread.new_zeros(len(spread))
    start = TaskPrior(none, spread, spread, zero + 1)
    square = torch.zeros_like(spread)
    return Tracker(
        start, prior_tasks, forgetting, Sums(square, none, square, zero, zero, zero), start
    )


class _Told(NamedTuple):
    """What B tasks say of the mean, given the spread."""

    information: Tensor  # [B, P, P]: J
    pull: Tensor  # [B, P]: J x the mean that fits best


def _told(evidence: Evidence, prior: TaskPrior) -> _Told:
    gram, pull = evidence.gram / prior.scale, evidence.pull / prior.scale
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype)
    both = torch.cat([gram, pull.unsqueeze(-1)], -1)
    # (A^-1 + spread)^-1 = (1 + A spread)^-1 A, also where A or the spread has no inverse.
    found = torch.linalg.solve(eye + gram @ prior.spread, both)
    return _Told(found[..., :-1], found[..., -1])


def _added(weight: Tensor, matrices: Tensor) -> Tensor:
    """Return the weighted sum [P, P] of matrices [B, P, P]."""
    return torch.einsum("b,bij->ij", weight, matrices)


def _expected(evidence: Evidence, told: _Told, prior: TaskPrior) -> tuple[Tensor, Tensor]:
    """Return E[(w - mean) (w - mean)'] [B, P, P] and the expected squared errors [B]."""
    spread, unsure = prior.spread, prior.uncertainty
    gain = spread @ told.information  # w = mean + deviation, which falls by gain x mean
    deviation = (told.pull - told.information @ prior.mean) @ spread
    own = spread - gain @ spread
    scatter = _outer(deviation) + own + gain @ unsure @ gain.mT
    rest = torch.eye(len(spread), dtype=spread.dtype) - gain
    weights = prior.mean + deviation
    second = _outer(weights) + own + rest @ unsure @ rest.mT
    fitted = (evidence.gram * second).sum((-1, -2)) - 2 * (evidence.pull * weights).sum(-1)
    return scatter, evidence.squares + fitted


def _outer(vectors: Tensor) -> Tensor:
    return vectors.unsqueeze(-1) * vectors.unsqueeze(-2)
