"""Losses of the three kinds of feedback, over padded sets of one task.

Every mean is over the true entries of `mask`; an empty set has loss 0 and gradient 0.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `values` where `mask`, 0 if there is none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def squared_error(scores: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error (explicit feedback)."""
    return masked_mean((scores - label) ** 2, mask)


def cross_entropy(scores: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of log-odds `scores` (binary feedback)."""
    return masked_mean(binary_cross_entropy_with_logits(scores, label, reduction="none"), mask)


def softmax(positives: Tensor, others: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of -log p(positive) against `others` (implicit feedback).

    Args:
        positives: scores [N].
        others: scores [S] of the items it competes with, log-correction for sampling included. The
            positive itself is added to the sum: with S = 0 the loss is 0.
        mask: True on real positives [N].

    """
    rivals = torch.logsumexp(others, 0) if others.numel() else others.new_full((), -torch.inf)
    return masked_mean(torch.logaddexp(positives, rivals.expand_as(positives)) - positives, mask)


def full_softmax(scores: Tensor, item: Tensor, excluded: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of -log p(item) over the whole catalogue.

    Args:
        scores: [I], every item of the catalogue.
        item: positives [N], rows of `scores`.
        excluded: bool [I], items that cannot be chosen (the support); positives among them are
            left out of the mean.
        mask: True on real positives [N].

    """
    total = torch.logsumexp(scores.masked_fill(excluded, -torch.inf), 0)
    return masked_mean(total - scores[item], mask & ~excluded[item])
