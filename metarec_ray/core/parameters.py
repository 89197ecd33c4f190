"""Parameters as those who own them declare them: a value, and how training treats it.

What decays, what adapts, what its rows stand for and which part of a model it belongs to is
declared: a name is a key in a checkpoint and decides nothing.
"""

from typing import Literal, NamedTuple

from torch import Tensor

from metarec_ray.core.batch import Params

Part = Literal["item", "user", "context", "head", "learner"]
"""What a parameter belongs to: the encoder and ids of a side, the head, or the learner."""


class Rows(NamedTuple):
    """What the rows of a parameter stand for: tokens, dense columns or ids of a side."""

    side: str  # user, item, context or label
    of: Literal["tokens", "dense", "ids"]


class Parameter(NamedTuple):
    """A parameter before training.

    Attributes:
        value: float, of any shape.
        decays: whether weight decay draws it to zero: weights and embeddings do, biases, learned
            rates and precisions do not, for which zero is no neutral value.
        rows: what each row stands for, so that a warm start copies rows that mean the same; None
            where rows have no meaning of their own. Rows of ids make a table: a lane looks up those
            of its items or entities, and only these have a gradient. The towers alone declare such.
        adapts: of an encoder's parameters, whether an encoder that adapts moves them for each task.
        part: what it belongs to, which `train.freeze` names; whoever joins the parts says it.

    """

    value: Tensor
    decays: bool = False
    rows: Rows | None = None
    adapts: bool = False
    part: Part = "learner"

    @property
    def is_table(self) -> bool:
        """Whether lanes look its rows up by id."""
        return self.rows is not None and self.rows.of == "ids"


Declared = dict[str, Parameter]
"""Declared parameters by name: a flat name, because that is what a checkpoint holds."""


def values(declared: Declared) -> Params:
    """Return the values by name."""
    return {name: parameter.value for name, parameter in declared.items()}


def under(prefix: str, params: Params) -> Params:
    """Return the parameters whose names begin with `prefix`, by the rest of their names."""
    return {n.removeprefix(prefix): p for n, p in params.items() if n.startswith(prefix)}


def of_part(part: Part, declared: Declared) -> Declared:
    """Return the parameters as ones of `part`."""
    return {name: parameter._replace(part=part) for name, parameter in declared.items()}


def table_rows(declared: Declared) -> dict[str, Rows]:
    """Return of each table what its rows stand for, by name."""
    return {n: p.rows for n, p in declared.items() if p.rows is not None and p.is_table}


def split(declared: Declared) -> tuple[Params, Params]:
    """Return the values of dense parameters and of tables."""
    dense = {n: p.value for n, p in declared.items() if not p.is_table}
    return dense, {n: p.value for n, p in declared.items() if p.is_table}
