"""What every encoder answers. Knows side information; does not know ids, tasks or learners."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Generator, Tensor

from metarec_ray.core.batch import Features, Params
from metarec_ray.core.parameters import Declared
from metarec_ray.data.setting_types import Settings


class Side(NamedTuple):
    """Sizes of one side's features: rows of its token table and width of its dense vector."""

    tokens: int
    dense: int


class Encoder(Settings, ABC):
    """Turns side information into vectors of D dimensions.

    One object serves users, items and contexts; each side has parameters of its own.

    Parameters of a side are named `<side>.<what>`. Subclasses have a field `name`, by which
    `model.encoder` picks them.

    Attributes:
        adapts: whether gradient learners adapt the encoders of users and items to each task,
            beside the head: those parameters that are declared to. The catalogue is then encoded
            once a task, not once: for small catalogues, and for few parameters.

    """

    adapts: bool = False

    @abstractmethod
    def init(
        self, side: str, sizes: Side, dim: int, *, scale: float, generator: Generator
    ) -> Declared:
        """Return fresh parameters of a side; `scale` is the standard deviation of embeddings.

        Those declared with `adapts` move for each task, where the encoder adapts. Which these are
        depends on settings alone, not on sizes.
        """

    @abstractmethod
    def encode(self, params: Params, side: str, features: Features) -> Tensor:
        """Return the vectors [*E, D] of entities, 0 for one of which nothing is known.

        Every entity alone, whatever stands beside it. Where `adapts` is set, vmap must be able to
        map it: no data decides a shape.
        """
