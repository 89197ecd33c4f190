"""Losses of the three kinds of feedback, over padded sets: of one task, or of T at once.

The last axis is the set; a leading `*T` stays. Every mean is over the true entries of `mask`; an
empty set has loss 0 and gradient 0.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `values` where `mask`, 0 if there is none; `mask` may hold weights."""
    # What does not count may be infinite, and 0 times infinity is not 0.
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

    Args:
        positives: scores [*T, N].
        others: scores [*T, S] of the items it competes with, log-correction for sampling included.
            The positive itself is added to the sum: with S = 0 the loss is 0.
        mask: True on real positives [*T, N].
        competes: bool [*T, N, S], False where another item is the positive itself; None for
            nowhere.

    """
    if not others.shape[-1]:
        rivals = torch.full_like(positives, -torch.inf)
    elif competes is None:
        rivals = torch.logsumexp(others, -1, keepdim=True).expand_as(positives)
    else:
        rivals = competing(others, competes)
    return masked_mean(torch.logaddexp(positives, rivals) - positives, mask)


def competing(others: Tensor, competes: Tensor) -> Tensor:
    """Return the logsumexp [*T, N] of what each positive competes with, as `softmax` takes them."""
    # One exponential an item, not one a pair. Where it vanishes, the positive is far larger.
    top = others.detach().amax(-1, keepdim=True)
    total = competes.to(others.dtype) @ torch.exp(others - top).unsqueeze(-1)
    return top + torch.log(total.squeeze(-1).clamp(min=torch.finfo(total.dtype).tiny))


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
    # Without a choice nothing is barred: no positive counts then, and nothing is infinite.
    some_left = ~excluded.all(-1, keepdim=True)
    barred = torch.zeros_like(excluded, dtype=torch.float32)
    barred = barred.masked_fill(excluded & some_left, -torch.inf)
    return barred, mask & ~excluded.gather(-1, item)
