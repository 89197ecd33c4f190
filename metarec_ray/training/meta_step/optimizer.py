"""The outer optimizer: AdamW over dense parameters and, row by row, over tables.

Knows one step as a pure update of explicit state; does not know where gradients come from. Rows
that a meta-batch did not touch keep their value and their moments, as in the lazy variant of Adam
[Kingma & Ba, 2015, arXiv:1412.6980; Loshchilov & Hutter, 2019, arXiv:1711.05101].
"""

import math

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from metarec_ray.core.batch import Params

BETAS, EPSILON = (0.9, 0.999), 1e-8
DECAYED = (".tokens", ".dense", ".item", ".user", ".ids", ".weight")
KEPT = ("rates.", "bayes.")  # learned rates and precisions: zero is no neutral value of theirs


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
    params: Params, gradient: Params, state: Params, *, step: int, lr: float, weight_decay: float
) -> None:
    """Update `params` and `state` in place; `step` counts from 0."""
    for decay, names in _groups(params, weight_decay).items():
        _update(
            [params[name] for name in names],
            [gradient[name] for name in names],
            [state[f"m.{name}"] for name in names],
            [state[f"v.{name}"] for name in names],
            step=step,
            lr=lr,
            weight_decay=decay,
        )


def step_rows(
    table: Tensor,
    rows: Tensor,
    gradient: Tensor,
    state: Params,
    *,
    name: str,
    step: int,
    lr: float,
    weight_decay: float,
) -> None:
    """Update `rows` (unique) of `table` and of its moments in place."""
    whole = (table, state[f"m.{name}"], state[f"v.{name}"])
    value, m, v = (part.index_select(0, rows) for part in whole)
    decay = weight_decay if _is_decayed(name) else 0.0
    _update([value], [gradient], [m], [v], step=step, lr=lr, weight_decay=decay)
    for part, changed in zip(whole, (value, m, v), strict=True):
        part.index_copy_(0, rows, changed)


def clip(gradients: list[Tensor], limit: float) -> float:
    """Scale all gradients in place to a joint norm of at most `limit`; return the norm before."""
    norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients]
    norm = float(torch.linalg.vector_norm(torch.stack(norms)))
    if norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)
    return norm


def _is_decayed(name: str) -> bool:
    return name.endswith(DECAYED) and not name.startswith(KEPT)


def _groups(params: Params, weight_decay: float) -> dict[float, list[str]]:
    """Return the names of parameters by how much they decay."""
    groups: dict[float, list[str]] = {}
    for name in params:
        groups.setdefault(weight_decay if _is_decayed(name) else 0.0, []).append(name)
    return groups


def _update(
    params: list[Tensor],
    gradients: list[Tensor],
    m: list[Tensor],
    v: list[Tensor],
    *,
    step: int,
    lr: float,
    weight_decay: float,
) -> None:
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
