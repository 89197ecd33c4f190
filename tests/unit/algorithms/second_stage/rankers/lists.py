"""Small shortlists: drawn ones, two by hand, and ones with a planted signal."""

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.rankers.base import Ranker
from metarec_ray.algorithms.second_stage.rankers.inputs import Inputs, scale_of, standardised
from metarec_ray.algorithms.second_stage.rankers.listwise import LabelledShortlists, ndcg_of
from metarec_ray.core.batch import Params
from metarec_ray.errors import MachineError

LISTS, ITEMS, FEATURES, SIZES = 6, 12, 5, 3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs() -> Inputs:
    """Lists of 12, 11 ... 7 real items."""
    return Inputs(
        features=10 + 3 * drawn(LISTS, ITEMS, FEATURES),
        score=-drawn(LISTS, ITEMS, seed=1).abs(),
        real=torch.arange(ITEMS) < ITEMS - torch.arange(LISTS).unsqueeze(1),
        size=torch.arange(LISTS) % SIZES,
    )


def scale() -> Params:
    return scale_of(inputs().features, inputs().real)


def planted(lists: int, seed: int, *, items: int = 20) -> LabelledShortlists:
    """Lists whose relevant items have a large second feature; the first stage knows a little."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(lists, items, 3, generator=generator)
    real = torch.arange(items) < items - torch.randint(5, (lists, 1), generator=generator)
    noise = torch.randn(lists, items, generator=generator)
    value = (features[..., 1] + 0.3 * noise).masked_fill(~real, -torch.inf)
    relevant = torch.zeros(lists, items).bool().scatter(1, value.topk(3, 1).indices, True)
    score = (0.5 * relevant + torch.randn(lists, items, generator=generator)).clamp(max=3) - 3
    size = torch.randint(2, (lists,), generator=generator)
    inputs = Inputs(features, score, real, size)
    return LabelledShortlists(inputs, relevant, torch.full((lists,), 3.0), torch.ones(lists))


def two_lists() -> LabelledShortlists:
    """Four and three real items; of three and one relevant ones two and one are listed."""
    real = torch.tensor([[True] * 4, [True] * 3 + [False]])
    relevant = torch.tensor([[True, False, True, False], [False, True, False, False]])
    inputs = Inputs(torch.zeros(2, 4, 1), torch.zeros(2, 4), real, torch.zeros(2).long())
    return LabelledShortlists(inputs, relevant, torch.tensor([3.0, 1.0]), torch.ones(2))


def installed(ranker: Ranker) -> Ranker:
    """Return a ranker; skip the test, saying why, if it cannot be fitted on this machine."""
    try:
        ranker.require_installed()
    except MachineError as error:
        pytest.skip(str(error))
    return ranker


def fitted(ranker: Ranker, shortlists: LabelledShortlists, *, seed: int = 0) -> Params:
    """Return a fit on planted lists."""
    scale = scale_of(shortlists.inputs.features, shortlists.inputs.real)
    return ranker.fit(shortlists, scale, sizes=2, seed=seed)


def scores(
    ranker: Ranker, fit: Params, shortlists: LabelledShortlists, like: LabelledShortlists
) -> Tensor:
    """Return the scores [G, C] of a fit on lists `like` these."""
    own = scale_of(like.inputs.features, like.inputs.real)
    return ranker.scores(fit, standardised(own, shortlists.inputs), shortlists.inputs)[0]


def quality(
    ranker: Ranker, fit: Params, shortlists: LabelledShortlists, like: LabelledShortlists
) -> float:
    """Return the mean NDCG@10 of the order of a fit on lists `like` these."""
    return float(ndcg_of(scores(ranker, fit, shortlists, like), shortlists, depth=10).mean())
