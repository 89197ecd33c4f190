"""The outer optimizer: AdamW, with the schedule of its rate and the clipping of gradients.

Knows one step as a pure update of explicit state; does not know where gradients come from. Rows of
tables (`tables`) that a meta-batch did not touch are left alone, as in the lazy variant of Adam
[Kingma & Ba, 2015, arXiv:1412.6980; Loshchilov & Hutter, 2019, arXiv:1711.05101].
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from metarec_ray.core.batch import Params

BETAS, EPSILON = (0.9, 0.999), 1e-8


def moments(params: Params) -> Params:
    """Return zero first and second moments of every parameter."""
    return {
        f"{moment}.{n}": torch.zeros_like(p) for n, p in params.items() for moment in ("m", "v")
    }


def rate(step: int, *, steps: int, peak: float, schedule: str) -> float:
    """Return the outer learning rate of a step (0-based).

    >>> rate(5, steps=100, peak=1.0, schedule="constant")
    1.0
    >>> round(rate(99, steps=100, peak=1.0, schedule="cosine"), 4)
    0.0003
    """
    if schedule == "constant":
        return peak
    warm = max(1, steps // 10)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def step_dense(
    params: Params,
    gradient: Params,
    state: Params,
    *,
    step: int,
    lr: float,
    decay: Mapping[str, float],
) -> None:
    """Update `params` and their moments `state` in place.

    Args:
        params: by name.
        gradient: of each.
        state: moments, as `moments` names them.
        step: from 0.
        lr: outer learning rate.
        decay: weight decay of each parameter.

    """
    for rate in dict.fromkeys(decay[name] for name in params):
        names = [name for name in params if decay[name] == rate]
        adamw_step(
            [params[name] for name in names],
            [gradient[name] for name in names],
            [state[f"m.{name}"] for name in names],
            [state[f"v.{name}"] for name in names],
            step=step,
            lr=lr,
            weight_decay=rate,
        )


def clip(gradients: list[Tensor], limit: float) -> float:
    """Scale all gradients in place to a joint norm of at most `limit`; return the norm before."""
    norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients]
    norm = float(torch.linalg.vector_norm(torch.stack(norms)))
    if norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)
    return norm


def adamw_step(
    params: list[Tensor],
    gradients: list[Tensor],
    m: list[Tensor],
    v: list[Tensor],
    *,
    step: int,
    lr: float,
    weight_decay: float,
) -> None:
    """Take one step of AdamW on parameters and their moments in place; `step` counts from 0."""
    taken = [torch.tensor(float(step), device=params[0].device) for _ in params]
    adamw(
        params,
        gradients,
        m,
        v,
        [],
        taken,
        fused=True,
        amsgrad=False,
        beta1=BETAS[0],
        beta2=BETAS[1],
        lr=lr,
        weight_decay=weight_decay,
        eps=EPSILON,
        maximize=False,
    )
