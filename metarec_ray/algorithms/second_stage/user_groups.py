"""What people like this one meet more often than others: by each field of the user.

Knows categorical user features and counts; does not know scores.

Axes: G columns of user features, I items, T tasks, C items of a shortlist, F fields.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from metarec_ray.core.batch import Features, FieldSpan, Params, SideInformation
from metarec_ray.core.histories import Histories

WIDEST = 64  # values of a field: one with more is more an id than a group
MOST_CELLS = 50_000_000  # of the table
SHRINK = 3000.0  # events' worth of all entities that are added to those of each group


def groups(side: SideInformation, n_items: int) -> tuple[FieldSpan, ...]:
    """Return the categorical fields of users that group them: narrow ones, as the table allows."""
    found, rows = [], 0
    for field in side.fields:
        size = field.end - field.first
        if field.categorical and size <= WIDEST and (rows + size) * n_items <= MOST_CELLS:
            found.append(field)
            rows += size
    return tuple(found)


def group_ratios(histories: Histories) -> Params:
    """Return how much likelier each item is in each group.

    `log_ratio` [1 + G, I], 0 in row 0, which is of no group, and for groups of nobody; `row` int64
    [tokens], of a token; `column` float [1 + G, F + 1], 1 in the column of a row's field, and in
    the last one, of their sum.
    """
    side, n_items = histories.users, histories.n_items
    fields = groups(side, n_items)
    row, field = torch.zeros(max(1, side.tokens), dtype=torch.int64), [len(fields)]
    for number, span in enumerate(fields):
        size = span.end - span.first
        row[span.first : span.end] = len(field) + torch.arange(size)
        field += [number] * size
    count, entity = torch.zeros(len(field) * n_items), histories.entity()
    for token, weight in zip(side.features.tokens.T, side.features.weights.T, strict=True):
        key = row[token][entity] * n_items + histories.item
        count.index_add_(0, key, weight[entity])
    count = count.view(len(field), n_items)
    share = torch.bincount(histories.item, minlength=n_items).float() + 0.1
    share = share / share.sum()
    total = count.sum(1, keepdim=True)
    ratio = ((count + SHRINK * share) / ((total + SHRINK) * share)).log()
    ratio[0] = 0.0
    column = one_hot(torch.tensor(field), len(fields) + 1).float()
    column[:, -1] = 1.0
    return {"log_ratio": ratio, "row": row, "column": column}


def group_features(params: Params, users: Features, items: Tensor) -> Tensor:
    """Return the log-ratio of each field that groups users, and their sum [T, C, F + 1]."""
    row = params["row"][users.tokens]  # [T, B]
    told = params["column"][row] * users.weights.unsqueeze(-1)  # [T, B, F + 1]
    ratio = params["log_ratio"][row.unsqueeze(-1), items.unsqueeze(1)]  # [T, B, C]
    return ratio.mT @ told
