"""The best k of many scores, ties by id: the order a served user sees."""

import numpy as np
import torch
from torch import Tensor

BLOCK = 32  # scores in a block, of which only the maximum is looked at first; measured


def top_k(scores: Tensor, by_id: Tensor, k: int) -> Tensor:
    """Return the rows of the k highest `scores`, highest first, ties in ascending order of `by_id`.

    Args:
        scores: float [I]; -inf and NaN count the same, and are chosen last.
        by_id: int64 [I], rank of each row's id in sorted order.
        k: 0 <= k <= I.

    """
    if k == 0:
        return torch.empty(0, dtype=torch.int64)
    scores = scores.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    # Ties with the k-th score compete by id.
    threshold = torch.topk(scores, k, sorted=False).values.min()
    rows = torch.nonzero(scores >= threshold).flatten()
    return rows[in_order(scores[rows], by_id[rows])[:k]]


def in_order(scores: Tensor, by_id: Tensor) -> Tensor:
    """Return the positions [*T, I] of few `scores` [*T, I] as `top_k` orders them, NaN last."""
    # One sort by both keys; for few scores, torch's two sorts cost several times as much.
    return torch.from_numpy(np.lexsort((by_id.numpy(), -scores.numpy())))


def shortlist(scores: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the highest scores [T, size] of each row of `scores` [T, I], and their positions.

    They are not sorted, and which of equal scores are among them is arbitrary. Looks at blocks
    first: the best `size` scores are in the `size` blocks with the highest maxima.

    Args:
        scores: float.
        size: 1 <= size <= I.

    """
    blocks = scores.shape[1] // BLOCK
    if blocks <= size:
        return torch.topk(scores, size, sorted=False)
    whole = blocks * BLOCK
    # A block is every `blocks`-th score: its maximum is found faster than a run's.
    highest = scores[:, :whole].unflatten(1, (BLOCK, blocks)).amax(1)
    chosen = torch.topk(highest, size, sorted=False).indices
    searched = (chosen.unsqueeze(2) + torch.arange(0, whole, blocks)).flatten(1)
    if whole < scores.shape[1]:
        rest = torch.arange(whole, scores.shape[1]).expand(len(scores), -1)
        searched = torch.cat([searched, rest], 1)
    found = torch.topk(scores.gather(1, searched), size, sorted=False)
    return found.values, searched.gather(1, found.indices)
