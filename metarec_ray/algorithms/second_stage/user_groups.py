"""What people like this one meet more often than others: by each field of the user.

Knows categorical user features and counts; does not know scores.

Axes: G columns of user features, I items, T tasks, C items of a shortlist, F fields.
"""

import torch
from torch import Tensor

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

    `log_ratio` [tokens, I] of float16, 0 for tokens that group nobody, and `field` int64 [tokens],
    1 + the number of a token's field among those that group, 0 else.
    """
    side, n_items = histories.users, histories.n_items
    chosen = groups(side, n_items)
    field = torch.zeros(max(1, side.tokens), dtype=torch.int64)
    for number, span in enumerate(chosen, 1):
        field[span.first : span.end] = number
    last = max((span.end for span in chosen), default=1)
    count = torch.zeros(last * n_items)
    entity = histories.entity()
    tokens, weights = side.features.tokens, side.features.weights
    for column in range(tokens.shape[1]):
        token, weight = tokens[entity, column], weights[entity, column]
        counts = (token < last) & (field[token] > 0)
        key = token[counts] * n_items + histories.item[counts]
        count.index_add_(0, key, weight[counts])
    count = count.view(last, n_items)
    share = torch.bincount(histories.item, minlength=n_items).float() + 0.1
    share = share / share.sum()
    total = count.sum(1, keepdim=True)
    ratio = (count + SHRINK * share) / ((total + SHRINK) * share)
    known = (total > 0) & (field[:last] > 0).unsqueeze(1)
    return {"log_ratio": torch.where(known, ratio.log(), 0.0), "field": field[:last]}


def group_features(params: Params, users: Features, items: Tensor) -> Tensor:
    """Return the log-ratio of each field that groups users, and their sum [T, C, F + 1]."""
    field, last = params["field"], len(params["field"])
    inside = users.tokens < last
    token = torch.where(inside, users.tokens, 0)  # [T, B]
    of_field = torch.nn.functional.one_hot(field[token], int(field.max()) + 1)[..., 1:]
    told = of_field * (users.weights * inside).unsqueeze(-1)  # [T, B, F]
    ratio = params["log_ratio"][token.unsqueeze(-1), items.unsqueeze(1)]  # [T, B, C]
    each = ratio.mT @ told
    return torch.cat([each, each.sum(-1, keepdim=True)], -1)
