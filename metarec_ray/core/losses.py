"""Losses of the three kinds of feedback, over padded sets: of one task, or of T at once.

The last axis is the set; a leading `*T` is kept. Every mean is over the entries where `mask` is
True; an empty set has loss 0 and gradient 0.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from metarec_ray.core.matrices.shared import shared_times


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `values` where `mask`, 0 if there is none; `mask` may hold weights."""
    # Masked values may be infinite, and 0 times infinity is not 0.
    return (torch.where(mask > 0, values, 0.0) * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def squared_error(scores: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error (explicit feedback)."""
    return masked_mean((scores - label) ** 2, mask)


def cross_entropy(scores: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of log-odds `scores` (binary feedback)."""
    return masked_mean(binary_cross_entropy_with_logits(scores, label, reduction="none"), mask)


def softmax(
    positives: Tensor, others: Tensor, mask: Tensor, *, competes: Tensor | None = None
) -> Tensor:
    """Return the mean of -log p(positive) against `others` (implicit feedback).

    Shapes are those of `softmax_losses`; `mask` [*T, N] is True on real positives.
    """
    return masked_mean(softmax_losses(positives, others, competes=competes), mask)


def softmax_losses(positives: Tensor, others: Tensor, *, competes: Tensor | None = None) -> Tensor:
    """Return -log p [*T, N] of each positive against `others`.

    Args:
        positives: scores [*T, N].
        others: scores [*T, S] of the items it competes with, less their log-probability of having
            been sampled. The positive itself is added to the sum: with S = 0 the loss is 0.
        competes: bool [*T, N, S], False where one of the others is the positive itself; None if
            that is nowhere so.

    """
    if not others.shape[-1]:
        competitors = torch.full_like(positives, -torch.inf)
    elif competes is None:
        competitors = torch.logsumexp(others, -1, keepdim=True).expand_as(positives)
    else:
        competitors = competing(others, competes)
    return torch.logaddexp(positives, competitors) - positives


def mean_score(
    positives: Tensor, others: Tensor, weight: Tensor, *, competes: Tensor | None = None
) -> Tensor:
    """Return the mean score [*T, N] over each positive and the items it competes with.

    `weight` [*T, S] says how many items each of the others stands for; shapes as in `softmax`.
    """
    each = weight.unsqueeze(-2)
    each = each.expand(*positives.shape, -1) if competes is None else each * competes
    total = (each * others.unsqueeze(-2)).sum(-1) + positives
    return total / (1 + each.sum(-1))


def competing(others: Tensor, competes: Tensor) -> Tensor:
    """Return the logsumexp [*T, N] of the scores that each positive competes with in `softmax`."""
    # One exponential for each item, not for each pair. Where it is 0, the positive is far larger.
    top = others.detach().amax(-1, keepdim=True)
    total = shared_times(competes.to(others.dtype), torch.exp(others - top).unsqueeze(-1))
    return top + torch.log(total.squeeze(-1).clamp(min=torch.finfo(total.dtype).tiny))


def repeats(item: Tensor, mask: Tensor) -> Tensor:
    """Return bool [*T, N]: whether an earlier real event of the set has the same item."""
    n = item.shape[-1]
    earlier = torch.ones(n, n, dtype=torch.bool, device=item.device).tril(-1)
    same = item.unsqueeze(-1) == item.unsqueeze(-2)
    return (same & earlier & mask.unsqueeze(-2)).any(-1)


def full_softmax(scores: Tensor, item: Tensor, barred: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of -log p(item) over the whole catalogue.

    Args:
        scores: [*T, I], every item of the catalogue.
        item: positives [*T, N], columns of `scores`.
        barred: float [*T, I], as `choosable` returns it.
        mask: True on real positives that can be chosen [*T, N].

    """
    return masked_mean(-torch.log_softmax(scores + barred, -1).gather(-1, item), mask)


def choosable(excluded: Tensor, item: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return `barred` and `mask` of `full_softmax`, where some items cannot be chosen.

    Positives among these are left out of the mean; if everything is excluded, the loss is 0.

    Args:
        excluded: bool [*T, I].
        item: positives [*T, N].
        mask: True on real positives [*T, N].

    """
    # If everything is excluded, nothing is barred: no positive counts then, and no score is -inf.
    some_left = ~excluded.all(-1, keepdim=True)
    barred = torch.zeros_like(excluded, dtype=torch.float32)
    barred = barred.masked_fill(excluded & some_left, -torch.inf)
    return barred, mask & ~excluded.gather(-1, item)
