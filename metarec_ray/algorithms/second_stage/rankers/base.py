"""What orders shortlists: how it is fitted, and how it scores.

Knows shortlists as numbers; does not know the first stage, checkpoints or folds.

Axes as in `inputs`, and R fits side by side.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from metarec_ray.algorithms.second_stage.rankers.inputs import Inputs
from metarec_ray.algorithms.second_stage.rankers.listwise import LabelledShortlists
from metarec_ray.core.batch import Params
from metarec_ray.data.setting_types import Settings


class Ranker(Settings, ABC):
    """Hyper-parameters as fields, the fit and the scores as methods.

    What is fitted is a flat dictionary of tensors whose first axis is R, because that is what a
    checkpoint holds; fits of one ranker have the same names and shapes, and are stacked.
    """

    fits: ClassVar[str]
    """What several fits are called."""

    def require_installed(self) -> None:
        """Raise a MachineError unless everything that a fit needs is installed."""

    @abstractmethod
    def fit(
        self, shortlists: LabelledShortlists, scale: Params, *, sizes: int, seed: int
    ) -> Params:
        """Return one fit, R = 1, that orders the shortlists; the same bits for the same seed.

        Args:
            shortlists: to learn from; those without a relevant item teach nothing.
            scale: of their features, as `scale_of` returns it.
            sizes: of supports that are told apart, those of `Inputs.size`.
            seed: of what is drawn.

        """

    @abstractmethod
    def scores(self, fitted: Params, standard: Tensor, inputs: Inputs) -> Tensor:
        """Return the scores [R, G, C] of each fit; what padding scores means nothing.

        Args:
            fitted: R fits, stacked.
            standard: the inputs `standardised` [G, C, Z].
            inputs: where they come from.

        """
