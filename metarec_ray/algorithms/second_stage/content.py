"""How much an item is like those of the support, field by field.

Knows features of items; does not know who met them.

Axes: I items, B tokens of an item, F categorical fields, D numbers, T tasks, C items of a
shortlist.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from metarec_ray.algorithms.second_stage.shortlist import Shortlist
from metarec_ray.core.batch import Params, SideInformation

FIELDS = 8
"""Fields that are compared, at most, of each kind: the first ones."""


def content(side: SideInformation) -> Params:
    """Return the items as they are compared.

    `tokens` int64 [I, B] and `weights` float [I, B], of norm 1 in each field, 0 for tokens of no
    field that is compared; `column` float [tokens, F], 1 in the column of its field; `numbers`
    [I, D].
    """
    kinds = [f for f in side.fields if f.categorical][:FIELDS]
    field = torch.zeros(max(1, side.tokens), dtype=torch.int64)
    for number, span in enumerate(kinds, 1):
        # The first row of a field is its unknown value, which makes no two items alike.
        field[span.first + 1 : span.end] = number
    tokens = side.features.tokens
    own = field[tokens]
    weights = side.features.weights * (own > 0)
    square = torch.zeros(len(tokens), len(kinds) + 1).scatter_add_(1, own, weights.square())
    norm = square.sqrt().clamp(min=1e-9).gather(1, own)
    numbers = [f.first for f in side.fields if f.is_number][:FIELDS]
    return {
        "tokens": tokens,
        "weights": weights / norm,
        "column": one_hot(field, len(kinds) + 1)[:, 1:].float(),
        "numbers": side.features.dense[:, numbers],
    }


def content_features(params: Params, asked: Shortlist) -> Tensor:
    """Return the likeness of each item to the support in each field [T, C, F + 2 D].

    Of categories the mean cosine; of numbers the distance to the newest item and the difference
    from the support's mean. All are 0 for an empty support.
    """
    share = asked.share()
    return torch.cat([_cosines(params, asked, share), _distances(params, asked, share)], -1)


def _cosines(params: Params, asked: Shortlist, share: Tensor) -> Tensor:
    column, tokens, weights = params["column"], params["tokens"], params["weights"]
    profile = torch.zeros(len(asked.item), len(column))
    theirs = (weights[asked.support] * share.unsqueeze(-1)).flatten(1)
    profile.scatter_add_(1, tokens[asked.support].flatten(1), theirs)
    own = tokens[asked.item]  # [T, C, B]
    like = profile.gather(1, own.flatten(1)).view(own.shape) * weights[asked.item]
    return (like.unsqueeze(-2) @ column[own]).squeeze(-2)


def _distances(params: Params, asked: Shortlist, share: Tensor) -> Tensor:
    numbers = params["numbers"]
    if not numbers.shape[1]:
        return numbers.new_zeros(*asked.item.shape, 0)
    own = numbers[asked.item]
    newest, known = asked.newest(1)
    distance = (own - numbers[newest]).abs()
    mean = share.unsqueeze(1) @ numbers[asked.support]  # [T, 1, D]
    return torch.cat([distance, own - mean], -1) * known.unsqueeze(-1)
