"""The best k of many scores, ties by id: the order a served user sees."""

import numpy as np
import torch
from torch import Tensor

BLOCK = 32  # scores that are first looked at as one, by their highest; measured


def top_k(scores: Tensor, by_id: Tensor, k: int) -> Tensor:
    """Return the rows of the k highest `scores`, highest first, ties in ascending order of `by_id`.

    Args:
        scores: float [I]; -inf and NaN, which are equal, are chosen when nothing else is left.
        by_id: int64 [I], rank of each row's id in sorted order.
        k: 0 <= k <= I.

    """
    if k == 0:
        return torch.empty(0, dtype=torch.int64)
    scores = scores.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    # The k-th score decides who is in; all ties with it compete by id.
    threshold = torch.topk(scores, k, sorted=False).values.min()
    rows = torch.nonzero(scores >= threshold).flatten()
    return rows[in_order(scores[rows], by_id[rows])[:k]]


def in_order(scores: Tensor, by_id: Tensor) -> Tensor:
    """Return the positions [*T, I] of few `scores` [*T, I] as `top_k` orders them, NaN last."""
    # One call that sorts by both; of few scores torch's two cost several times as much.
    return torch.from_numpy(np.lexsort((by_id.numpy(), -scores.numpy())))


def shortlist(scores: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the highest scores [T, size] of each row of `scores` [T, I], and their positions.

    They are in no order, and which of equal scores are among them is arbitrary. Looks at blocks
    first: the best `size` scores stand in the `size` blocks with the highest maxima.

    Args:
        scores: float.
        size: 1 <= size <= I.

    """
    blocks = scores.shape[1] // BLOCK
    if blocks <= size:
        return torch.topk(scores, size, sorted=False)
    whole = blocks * BLOCK
    # A block is every `blocks`-th score: maxima of rows are found faster than of columns.
    highest = scores[:, :whole].unflatten(1, (BLOCK, blocks)).amax(1)
    chosen = torch.topk(highest, size, sorted=False).indices
    searched = (chosen.unsqueeze(2) + torch.arange(0, whole, blocks)).flatten(1)
    if whole < scores.shape[1]:
        rest = torch.arange(whole, scores.shape[1]).expand(len(scores), -1)
        searched = torch.cat([searched, rest], 1)
    found = torch.topk(scores.gather(1, searched), size, sorted=False)
    return found.values, searched.gather(1, found.indices)
