"""The covariance of a task's ratings under weighted kernels, and what follows from it.

Knows a backbone's parameters and the tables of kernels; does not know where weights come from. All
(co)variances but the predicted ones are in units of the variance of a rating's noise. Axes: N
events, C candidates, G kernels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.closed_form.factorisation import regressor
from metarec_ray.algorithms.closed_form.kernels import kernels
from metarec_ray.core.batch import Params


def grams_of(meta: Params, cov: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return the backbone's kernel and all others between the items a and b, [1 + G, N, C].

    All (co)variances of the process are in units of the variance of a rating's noise.
    """
    own = regressor(meta["item"][a]) @ (cov / meta["noise"]) @ regressor(meta["item"][b]).T
    return torch.cat([own.unsqueeze(0), kernels(meta, a, b)])


def uncertainty_of(meta: Params, index: Tensor) -> Tensor:
    """Return what is not known of each item, as a variance [N] in the same unit."""
    return meta["item_noise"][index] / meta["noise"]


def covariance_of(theta: Tensor, grams: Tensor, mask: Tensor, uncertainty: Tensor) -> Tensor:
    """Return the covariance [N, N] of a task's ratings; padding is independent of all others."""
    weights = torch.exp(theta)
    real = mask.to(grams.dtype)
    mixed = torch.tensordot(weights[:-1], grams, 1) * torch.outer(real, real)
    return mixed + torch.diag(1 + weights[-1] * uncertainty * real)


def predicted_variance(meta: Params, fast: Params, index: Tensor) -> Tensor:
    """Return the variances [C] of ratings of the items `index`.

    [Rasmussen & Williams, 2006, eq. 2.26], with the noise of a rating and what is not known of an
    item.
    """
    weights = torch.exp(meta["theta"])
    between = grams_of(meta, fast["cov"], fast["index"], index)
    between = torch.tensordot(weights[:-1], between, 1) * fast["mask"].unsqueeze(1)
    # The kernels of items with themselves, among those of all pairs.
    own = torch.tensordot(weights[:-1], grams_of(meta, fast["cov"], index, index), 1).diagonal()
    factor = torch.linalg.cholesky_ex(fast["covariance"].double()).L
    known = torch.linalg.solve_triangular(factor, between.double(), upper=False).square().sum(0)
    left = (own.double() - known).clamp(min=0).float()
    return meta["noise"] * (left + 1 + weights[-1] * uncertainty_of(meta, index))


class LeftOut(NamedTuple):
    """How each of N residuals is predicted from all the others."""

    error: Tensor  # [N]: the residual minus its prediction
    variance: Tensor  # [N]: of that error


def left_out(covariance: Tensor, residual: Tensor) -> LeftOut:
    """Return what each residual [N] is predicted to be from the others, in closed form.

    [Rasmussen & Williams, 2006, eq. 5.12].
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(covariance).L)
    certain = inverse.diagonal()
    return LeftOut((inverse @ residual) / certain, 1 / certain)
