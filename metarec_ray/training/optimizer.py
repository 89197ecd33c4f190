"""The outer optimizer: AdamW over dense parameters and, row by row, over tables.

Knows one step as a pure update of explicit state; does not know where gradients come from. Rows
that a meta-batch did not touch keep their value and their moments, as in the lazy variant of Adam
[Kingma & Ba, 2015, arXiv:1412.6980; Loshchilov & Hutter, 2019, arXiv:1711.05101].
"""

import math

import torch
from torch import Tensor

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
    for name, value in params.items():
        _update(
            value,
            gradient[name],
            state[f"m.{name}"],
            state[f"v.{name}"],
            name,
            step,
            lr,
            weight_decay,
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
    m, v = state[f"m.{name}"], state[f"v.{name}"]
    value, m_rows, v_rows = table[rows], m[rows], v[rows]
    _update(value, gradient, m_rows, v_rows, name, step, lr, weight_decay)
    table[rows], m[rows], v[rows] = value, m_rows, v_rows


def clip(gradients: list[Tensor], limit: float) -> float:
    """Scale all gradients in place to a joint norm of at most `limit`; return the norm before."""
    norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients))
    if norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)
    return norm


def _update(
    value: Tensor,
    gradient: Tensor,
    m: Tensor,
    v: Tensor,
    name: str,
    step: int,
    lr: float,
    decay: float,
) -> None:
    m.mul_(BETAS[0]).add_(gradient, alpha=1 - BETAS[0])
    v.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    first, second = (1 - beta ** (step + 1) for beta in BETAS)
    if decay and name.endswith(DECAYED) and not name.startswith(KEPT):
        value.mul_(1 - lr * decay)
    value.addcdiv_(m, (v.sqrt() / math.sqrt(second)).add_(EPSILON), value=-lr / first)
