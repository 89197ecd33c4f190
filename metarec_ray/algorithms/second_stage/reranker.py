"""The second stage as it is kept and used: what it knows of items, and what orders them.

Knows its parameters by their names; does not know the first stage.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from metarec_ray.algorithms.blending import weights_row
from metarec_ray.algorithms.second_stage.features import features
from metarec_ray.algorithms.second_stage.rankers.base import Ranker
from metarec_ray.algorithms.second_stage.rankers.inputs import Inputs, standardised
from metarec_ray.algorithms.second_stage.shortlist import Shortlist
from metarec_ray.core.batch import Params
from metarec_ray.core.parameters import under

_KNOWLEDGE, _FITS, _SCALE = "knowledge.", "fits.", "scale."
_KS, _HELPS = "ks", "helps"


class Reranker:
    """Orders shortlists: the mean of several fits' scores.

    Where they did not help on entities they had not seen, at some sizes of the support, the scores
    are those of the first stage.
    """

    def __init__(self, ranker: Ranker, params: Params):
        """Take a ranker, and parameters by the names that `parameters` gives them."""
        self.ranker = ranker
        self.knowledge, self.fits, self.scale = (
            under(prefix, params) for prefix in (_KNOWLEDGE, _FITS, _SCALE)
        )
        self.ks, self.helps = params[_KS], params[_HELPS]

    def scores(self, asked: Shortlist) -> Tensor:
        """Return the scores [T, C] of shortlists; -inf where there is no item."""
        inputs = inputs_of(asked, self.knowledge, self.ks)
        told = self.ranker.scores(self.fits, standardised(self.scale, inputs), inputs).mean(0)
        helps = self.helps[inputs.size].unsqueeze(1)
        return torch.where(helps, told, inputs.score).masked_fill(~asked.real, -torch.inf)


def inputs_of(
    asked: Shortlist, knowledge: Params, ks: Tensor, as_of: Tensor | None = None
) -> Inputs:
    """Return shortlists as a ranker reads them; `as_of` as `features` takes it."""
    return Inputs(
        features(knowledge, asked, as_of=as_of),
        asked.behind(),
        asked.real,
        weights_row(asked.events(), ks),
    )


def parameters(
    knowledge: Params, fits: Sequence[Params], scale: Params, *, ks: Tensor, helps: Tensor
) -> Params:
    """Return everything a `Reranker` needs, by name.

    Args:
        knowledge: as `item_knowledge` returns it.
        fits: of one ranker, whose scores are averaged.
        scale: of the features they were fitted on.
        ks: int64 [K], ascending, sizes of the support that were learned.
        helps: bool [K], at which of them the fits are used.

    """
    stacked = {name: torch.cat([one[name] for one in fits]) for name in fits[0]}
    named = {_KNOWLEDGE: knowledge, _FITS: stacked, _SCALE: scale}
    found = {start + name: value for start, one in named.items() for name, value in one.items()}
    return found | {_KS: ks, _HELPS: helps}
