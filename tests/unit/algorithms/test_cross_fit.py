"""Cross-fitting with a backbone that remembers what it was shown."""

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem
from metarec_ray.algorithms.cross_fit import cross_fit
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories
from metarec_ray.errors import DataError
from tests.unit.small_histories import histories_of

ENTITIES, ITEMS = 11, 6


class Recorder(FittedLearner):
    """Its parameters are what it was fitted on."""

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        seed = torch.tensor(fitting.seed)
        return {"entity": histories.label.unique(), "item": histories.item.unique(), "seed": seed}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return {}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return torch.zeros(len(candidates.index))


def data() -> Histories:
    """Every entity meets every item; the label names the entity."""
    label = torch.arange(ENTITIES).repeat_interleave(ITEMS)
    return histories_of([list(range(ITEMS))] * ENTITIES, n_items=ITEMS, label=label)


@pytest.mark.parametrize("folds", [2, 3, ENTITIES])
def test_a_fold_holds_no_entity_that_its_backbone_saw_and_the_folds_hold_everybody(folds: int):
    crossed = cross_fit(Recorder(), data(), Fitting(seed=3), folds=folds)
    met: list[float] = []
    for fold in crossed.folds:
        episodes = set(fold.unseen.label.tolist())
        assert not episodes & set(fold.params["entity"].tolist())
        assert set(fold.seen.label.tolist()) == set(fold.params["entity"].tolist())
        met += episodes
    assert sorted(met) == list(range(ENTITIES))
    assert len(crossed.folds) == folds


def test_the_final_backbone_is_fitted_on_everybody_with_the_same_seed():
    final = cross_fit(Recorder(), data(), Fitting(seed=3), folds=2, hidden_items=0.5).final
    assert final["entity"].tolist() == list(range(ENTITIES))
    assert final["item"].tolist() == list(range(ITEMS))
    assert final["seed"].item() == 3


def test_all_backbones_are_fitted_by_one_map_that_a_cluster_may_run_side_by_side():
    calls: list[int] = []

    def each(function, values):
        calls.append(len(values))
        return [function(value) for value in values]

    cross_fit(Recorder(), data(), Fitting(each=each), folds=4)
    assert calls == [4 + 1]


def test_a_fold_hides_items_from_its_backbone_and_not_from_its_episodes():
    crossed = cross_fit(Recorder(), data(), Fitting(), folds=2, hidden_items=1 / 3)
    shown = [set(fold.params["item"].tolist()) for fold in crossed.folds]
    assert [len(items) for items in shown] == [4, 4]
    assert shown[0] != shown[1]
    for fold in crossed.folds:
        assert fold.unseen.item.unique().tolist() == list(range(ITEMS))
        sizes = fold.seen.offsets.diff()
        assert sizes.tolist() == [4] * len(sizes)
        assert torch.equal(fold.seen.label, torch.repeat_interleave(fold.seen.label[::4], sizes))


@pytest.mark.parametrize("folds", [1, ENTITIES + 1])
def test_folds_that_leave_no_backbone_or_no_episode_are_refused(folds: int):
    with pytest.raises(DataError, match=rf"folds must be >= 2 and <= 11, .* got {folds}"):
        cross_fit(Recorder(), data(), ALONE, folds=folds)
