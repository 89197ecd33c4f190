"""Gradient-boosted trees over what is known of each item, added to the score of the first stage.

Knows how LightGBM grows them; what is grown becomes tensors, and is scored without LightGBM.

Axes: G shortlists, C items of each, P real items of all lists, Z inputs, and one for the size of
the support.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from metarec_ray.algorithms.second_stage.rankers.base import Ranker
from metarec_ray.algorithms.second_stage.rankers.decision_trees import (
    MOST_LEAVES,
    tree_sums,
    tree_tensors,
)
from metarec_ray.algorithms.second_stage.rankers.inputs import Inputs, standardised
from metarec_ray.algorithms.second_stage.rankers.listwise import (
    LabelledShortlists,
    listwise_derivatives,
)
from metarec_ray.core.batch import Params
from metarec_ray.errors import MachineError

if TYPE_CHECKING:
    from lightgbm import Dataset

CHUNK = 256  # shortlists whose rows are made side by side
BINS = 63  # thresholds of an input that are tried


class BoostedTrees(Ranker):
    """Trees grown one after another by second-order steps on the listwise loss [Burges, 2010].

    Attributes:
        trees: of one fit.
        leaves: of a tree, at most.
        learning_rate: share of each tree's step that is taken.
        min_items: items of the lists that a leaf needs.
        penalty: of the squares of leaves, beside the sum of second derivatives in each.
        inputs_share: of the inputs, drawn anew for each tree, that it may split by.

    """

    fits: ClassVar = "ensembles of trees"
    name: Literal["boosted_trees"] = "boosted_trees"
    trees: Annotated[int, Field(ge=1, le=5000)] = 150
    leaves: Annotated[int, Field(ge=2, le=MOST_LEAVES)] = 8
    learning_rate: PositiveFloat = 0.1
    min_items: PositiveInt = 100
    penalty: Annotated[float, Field(ge=0)] = 10.0
    inputs_share: Annotated[float, Field(gt=0, le=1)] = 0.3

    def require_installed(self) -> None:
        try:
            import lightgbm  # noqa: F401
        except ImportError:
            raise MachineError(
                f"second_stage.ranker {self.name} needs the package lightgbm, which is not "
                "installed: pip install 'metarec_ray[boosting]'"
            ) from None
        except OSError as error:
            raise MachineError(
                f"second_stage.ranker {self.name} needs the package lightgbm, which cannot be "
                f"loaded: {error} (libgomp1 is what it needs of most systems)"
            ) from None

    def fit(
        self, shortlists: LabelledShortlists, scale: Params, *, sizes: int, seed: int
    ) -> Params:
        taught = shortlists.at(shortlists.relevant.any(1).nonzero().flatten())
        roots = self._grown(taught, scale, seed) if len(taught.weight) else []
        return tree_tensors(roots, trees=self.trees, leaves=self.leaves)

    def scores(self, fitted: Params, standard: Tensor, inputs: Inputs) -> Tensor:
        told = tree_sums(fitted, _rows(standard, inputs).flatten(0, 1))
        return inputs.score + told.unflatten(1, inputs.score.shape)

    def _grown(
        self, taught: LabelledShortlists, scale: Params, seed: int
    ) -> list[Mapping[str, Any]]:
        """Return the root of each tree, beginning at the scores of the first stage."""
        self.require_installed()
        import lightgbm

        inputs, rows = taught.inputs, _matrix(taught.inputs, scale)
        if len(rows) < 2 * self.min_items or (rows == rows[0]).all():  # no tree has a split
            return []
        data = lightgbm.Dataset(rows, init_score=inputs.score[inputs.real].double().numpy())
        settings = {
            "objective": _objective(taught),
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_items,
            "lambda_l2": self.penalty,
            "feature_fraction": self.inputs_share,
            "use_missing": False,
            "max_bin": BINS,
            "min_data_in_bin": 1,
            "feature_pre_filter": False,
            "seed": seed,
            # So that the parameters depend, bit for bit, on nothing but data and seed.
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        booster = lightgbm.train(settings, data, num_boost_round=self.trees)
        return [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]


def _objective(
    taught: LabelledShortlists,
) -> Callable[[np.ndarray, "Dataset"], tuple[np.ndarray, np.ndarray]]:
    """Return what LightGBM asks of a loss: its derivatives by the scores [P] of real items."""
    real, weight = taught.inputs.real, taught.weight.unsqueeze(1)
    scores = torch.zeros(real.shape)

    def derivatives(score: np.ndarray, _: "Dataset") -> tuple[np.ndarray, np.ndarray]:
        scores[real] = torch.from_numpy(score).float()
        gradient, curvature = listwise_derivatives(scores, taught)
        return (gradient * weight)[real].numpy(), (curvature * weight)[real].numpy()

    return derivatives


def _matrix(inputs: Inputs, scale: Params) -> np.ndarray:
    """Return what trees split by, of real items alone, [P, Z + 1]."""
    found = np.empty((int(inputs.real.sum()), 2 * inputs.features.shape[-1] + 1), np.float32)
    at = 0
    for lists in torch.arange(len(inputs.size)).split(CHUNK):
        some = inputs.at(lists)
        rows = _rows(standardised(scale, some), some)[some.real]
        found[at : at + len(rows)] = rows.numpy()
        at += len(rows)
    return found


def _rows(standard: Tensor, inputs: Inputs) -> Tensor:
    """Return what trees split by [G, C, Z + 1]: the inputs, and the size of the support."""
    size = inputs.size[:, None, None].expand(-1, standard.shape[1], 1)
    return torch.cat([standard, size.float()], -1)
