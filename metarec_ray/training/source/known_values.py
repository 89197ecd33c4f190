"""Which values of features training knows enough to learn something of them; others say nothing.

Met by no entity, the row of a value would stay as it was drawn, and add noise to the first entity
that has it; met by a single user, it would be that user's name, by which a learner knows them
without adapting. Such values count for nothing, in training and in a checkpoint alike: what a new
entity has beside them means what it meant in training.
"""

import torch
from torch import Tensor

from metarec_ray.core.batch import Features, Params, SideInformation
from metarec_ray.core.histories import Histories
from metarec_ray.core.parameters import Declared, Rows
from metarec_ray.data.tasks.lanes import KnownValues

LEAST_USERS = 2
"""Users of training that must have a value of theirs for it to be known."""


def known_values(histories: Histories, trained: Tensor) -> KnownValues:
    """Return, of users and of items, which tokens are known, bool [tokens].

    The values of contexts all are: an event is nobody's name.

    Args:
        histories: what is trained on; entities without events are not met.
        trained: bool [I], items that training meets.

    """
    users, items = histories.users, histories.items
    return {
        "user": _known(users, users.features.at(histories.lengths() > 0), at_least=LEAST_USERS),
        "item": _known(items, items.features.at(trained), at_least=1),
    }


def without_unknown(declared: Declared, parameters: Params, known: KnownValues) -> Params:
    """Return the parameters with zeros for the rows of values that are not known.

    Whoever encodes an entity then need not know which values training met.
    """
    found = dict(parameters)
    for name, parameter in declared.items():
        for side, of_side in known.items():
            if parameter.rows == Rows(side, "tokens"):
                value = parameters[name]
                of_rows = of_side.to(value.device).view(-1, *[1] * (value.dim() - 1))
                found[name] = torch.where(of_rows, value, 0.0)
    return found


def _known(side: SideInformation, met: Features, *, at_least: int) -> Tensor:
    return torch.bincount(met.tokens[met.weights != 0], minlength=side.tokens) >= at_least
