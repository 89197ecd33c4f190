"""Losses of the three kinds of feedback, over padded sets of one task.

Every mean is over the true entries of `mask`; an empty set has loss 0 and gradient 0.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `values` where `mask`, 0 if there is none; `mask` may hold weights."""
    # What does not count may be infinite, and 0 times infinity is not 0.
    return (torch.where(mask > 0, values, 0.0) * mask).sum() / mask.sum().clamp(min=1)


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
        positives: scores [N].
        others: scores [S] of the items it competes with, log-correction for sampling included. The
            positive itself is added to the sum: with S = 0 the loss is 0.
        mask: True on real positives [N].
        competes: bool [N, S], False where another item is the positive itself; None for nowhere.

    """
    if not others.numel():
        rivals = others.new_full((), -torch.inf)
    elif competes is None:
        rivals = torch.logsumexp(others, 0)
    else:
        # One exponential an item, not one a pair. Where it vanishes, the positive is far larger.
        top = others.detach().amax()
        total = competes.to(others.dtype) @ torch.exp(others - top)
        rivals = top + torch.log(total.clamp(min=torch.finfo(total.dtype).tiny))
    return masked_mean(torch.logaddexp(positives, rivals.expand_as(positives)) - positives, mask)


def full_softmax(scores: Tensor, item: Tensor, excluded: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of -log p(item) over the whole catalogue.

    Args:
        scores: [I], every item of the catalogue.
        item: positives [N], rows of `scores`.
        excluded: bool [I], items that cannot be chosen (the support); positives among them are
            left out of the mean; if everything is excluded, the loss is 0.
        mask: True on real positives [N].

    """
    # Without a choice the scores stand in: no positive counts then, and nothing is infinite.
    chosen_from = torch.where(excluded & ~excluded.all(), -torch.inf, scores)
    total = torch.logsumexp(chosen_from, 0)
    return masked_mean(total - scores[item], mask & ~excluded[item])
