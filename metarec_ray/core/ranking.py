"""The best k of many scores, ties by id: the order a served user sees."""

import torch
from torch import Tensor


def top_k(scores: Tensor, by_id: Tensor, k: int) -> Tensor:
    """Return the rows of the k highest `scores`, highest first, ties in ascending order of `by_id`.

    Args:
        scores: float [I]; -inf is never chosen while anything else is left.
        by_id: int64 [I], rank of each row's id in sorted order.
        k: 0 <= k <= I.

    """
    if k == 0:
        return torch.empty(0, dtype=torch.int64)
    # The k-th score decides who is in; all ties with it compete by id.
    threshold = torch.topk(scores, k, sorted=False).values.min()
    rows = torch.nonzero(scores >= threshold).flatten()
    by_name = rows[torch.argsort(by_id[rows])]
    return by_name[torch.argsort(scores[by_name], descending=True, stable=True)][:k]
