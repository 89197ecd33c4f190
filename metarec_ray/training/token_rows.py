"""Which row of a token table stands for a value: its own, or that of the unknown.

A value that training hardly met has nothing of its own to say. Met by no entity, its row would stay
as it was drawn and add noise to the first entity that has it; met by a single one, it would be the
name of that entity, by which a learner knows it without adapting. Both share the row of the
unknown, which so is trained, and means to new entities what it meant in training.
"""

import torch
from torch import Tensor

from metarec_ray.core.batch import Features, Params, SideInformation
from metarec_ray.core.histories import Histories
from metarec_ray.core.parameters import Declared, Rows
from metarec_ray.data.tasks.lanes import TokenRows

LEAST_USERS = 2
"""Entities of training that a value of theirs needs to have a row of its own."""


def token_rows(histories: Histories, trained: Tensor) -> TokenRows:
    """Return, of users and of items, the row that stands for each token, int64 [tokens].

    Rare values of contexts keep their rows.

    Args:
        histories: what is trained on; entities without events are not met.
        trained: bool [I], items that training meets.

    """
    users, items = histories.users, histories.items
    return {
        "user": _rows(users, users.features.at(histories.lengths() > 0), at_least=LEAST_USERS),
        "item": _rows(items, items.features.at(trained), at_least=1),
    }


def share_rows(declared: Declared, parameters: Params, rows: TokenRows) -> Params:
    """Return the parameters with the row of the unknown in place of every row that it stands for.

    Whoever encodes a token then need not know which tokens training met.
    """
    found = dict(parameters)
    for name, parameter in declared.items():
        for side, row in rows.items():
            if parameter.rows == Rows(side, "tokens"):
                found[name] = parameters[name][row]
    return found


def _rows(side: SideInformation, met: Features, *, at_least: int) -> Tensor:
    count = torch.bincount(met.tokens[met.weights != 0], minlength=side.tokens)
    rows = torch.arange(side.tokens)
    for field in side.fields:
        if field.categorical:
            own = slice(field.first, field.end)
            rows[own] = torch.where(count[own] < at_least, field.first, rows[own])
    return rows
