"""Shortlists whose relevant items are known: what rankers are fitted on, by what, and how judged.

Knows the loss and the measure; does not know rankers, nor where shortlists come from.

Axes as in `inputs`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.rankers.inputs import Inputs


class LabelledShortlists(NamedTuple):
    """Shortlists to learn from."""

    inputs: Inputs
    relevant: Tensor  # bool [G, C]
    n_relevant: Tensor  # float [G]: relevant items of the task, whether its list has them or not
    weight: Tensor  # float [G]: of the task

    def at(self, tasks: Tensor) -> "LabelledShortlists":
        """Return the shortlists of `tasks`, int64 [n]."""
        return LabelledShortlists(
            self.inputs.at(tasks),
            self.relevant[tasks],
            self.n_relevant[tasks],
            self.weight[tasks],
        )


def concatenated(sets: Sequence[LabelledShortlists]) -> LabelledShortlists:
    """Return the shortlists of several sets as one."""
    columns = zip(*(one.inputs for one in sets), strict=True)
    return LabelledShortlists(
        Inputs(*(torch.cat(column) for column in columns)),
        torch.cat([one.relevant for one in sets]),
        torch.cat([one.n_relevant for one in sets]),
        torch.cat([one.weight for one in sets]),
    )


def listwise_loss(scores: Tensor, shortlists: LabelledShortlists) -> Tensor:
    """Return the loss [*, G]: mean of -log P(item) over the relevant items of each task.

    [Cao et al., 2007, ListNet; Ai et al., 2018, arXiv:1811.04415]. P is the softmax of scores
    [*, G, C] over the real items of a list. A relevant item that is not in the list costs the same
    whatever the scores: it stays missed.
    """
    inside = scores.masked_fill(~shortlists.inputs.real, -torch.inf)
    log_p = torch.log_softmax(inside, -1).masked_fill(~shortlists.relevant, 0.0)
    return -log_p.sum(-1) / shortlists.n_relevant


def listwise_derivatives(scores: Tensor, shortlists: LabelledShortlists) -> tuple[Tensor, Tensor]:
    """Return the first and second derivatives [G, C] of `listwise_loss` by each score [G, C].

    With r relevant items in the list of n, d = (r P(item) - [item is relevant]) / n, and the second
    one r P(item) (1 - P(item)) / n, of an item alone. Both are 0 on padding.
    """
    inside = scores.masked_fill(~shortlists.inputs.real, -torch.inf)
    listed = shortlists.relevant.sum(1, keepdim=True)
    share, n = torch.softmax(inside, -1), shortlists.n_relevant.unsqueeze(1)
    return (listed * share - shortlists.relevant.float()) / n, listed * share * (1 - share) / n


def ndcg_of(scores: Tensor, shortlists: LabelledShortlists, *, depth: int) -> Tensor:
    """Return the NDCG [G] of the first `depth` items of each list by scores [G, C].

    Relevant items that a list has not count as missed. Equal scores are in the order of the list,
    as they are served; a list with a score that is no number has none.
    """
    listed = min(depth, scores.shape[1])
    inside = scores.masked_fill(~shortlists.inputs.real, -torch.inf)
    order = inside.argsort(dim=1, descending=True, stable=True)[:, :listed]
    found = shortlists.relevant.gather(1, order).double()
    found = found.masked_fill(inside.isnan().any(1, keepdim=True), torch.nan)
    discount = 1 / torch.log2(torch.arange(depth, dtype=torch.float64) + 2)
    ideal = discount.cumsum(0)[shortlists.n_relevant.long().clamp(1, depth) - 1]
    return (found @ discount[:listed]) / ideal
