"""Parameters as those who own them declare them: a value, whether it decays, what its rows are.

Whether a parameter decays and what its rows stand for is declared, not read from its name.
"""

from typing import Literal, NamedTuple

from torch import Tensor

from metarec_ray.core.batch import Params


class Rows(NamedTuple):
    """What the rows of a parameter stand for: tokens, dense columns or ids of a side."""

    side: str  # user, item or context
    of: Literal["tokens", "dense", "ids"]


class Parameter(NamedTuple):
    """A parameter before training.

    Attributes:
        value: float, of any shape.
        decays: whether weight decay draws it to zero: weights and embeddings do, biases, learned
            rates and precisions do not, for which zero is no neutral value.
        rows: what each row stands for, so that a warm start copies rows that mean the same; None
            where rows have no meaning of their own. Rows of ids make a table: a lane looks up those
            of its items or entities, and only these have a gradient; they are `item.ids` and
            `user.ids`, which the towers declare.

    """

    value: Tensor
    decays: bool = False
    rows: Rows | None = None

    @property
    def is_table(self) -> bool:
        """Whether lanes look its rows up by id."""
        return self.rows is not None and self.rows.of == "ids"


Declared = dict[str, Parameter]
"""Declared parameters by name: a flat name, because that is what a checkpoint holds."""


def values(declared: Declared) -> Params:
    """Return the values by name."""
    return {name: parameter.value for name, parameter in declared.items()}


def split(declared: Declared) -> tuple[Params, Params]:
    """Return the values of dense parameters and of tables."""
    for name, parameter in declared.items():
        ids = parameter.rows is not None and f"{parameter.rows.side}.ids"
        assert not parameter.is_table or name == ids, f"rows of ids are {ids}, not {name}"
    dense = {n: p.value for n, p in declared.items() if not p.is_table}
    return dense, {n: p.value for n, p in declared.items() if p.is_table}
