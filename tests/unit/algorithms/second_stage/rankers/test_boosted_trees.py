"""Boosted trees: against LightGBM's own predictions, and where LightGBM is missing."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from metarec_ray.algorithms.second_stage.rankers.boosted_trees import BoostedTrees
from metarec_ray.algorithms.second_stage.rankers.decision_trees import tree_sums, tree_tensors
from metarec_ray.algorithms.second_stage.rankers.inputs import scale_of
from metarec_ray.algorithms.second_stage.rankers.listwise import (
    LabelledShortlists,
    listwise_loss,
    ndcg_of,
)
from metarec_ray.errors import MachineError
from tests.unit.algorithms.second_stage.rankers.lists import (
    fitted,
    installed,
    planted,
    quality,
    scores,
)

QUICK = BoostedTrees(trees=30, leaves=6, learning_rate=0.3, min_items=20, penalty=1.0)


def loss(found: torch.Tensor, shortlists: LabelledShortlists) -> float:
    return float(listwise_loss(found, shortlists).mean())


def test_tensors_predict_what_lightgbm_predicts() -> None:
    installed(QUICK)
    import lightgbm

    drawn = np.random.default_rng(0)
    # Rounded numbers meet thresholds, which LightGBM puts between neighbours, from both sides.
    rows = drawn.normal(size=(800, 6)).astype(np.float32).round(1)
    rows[:, 5] = drawn.normal(size=800).astype(np.float32) * 1e-4
    label = np.sin(rows[:, 0] * 3) + rows[:, 1] * rows[:, 2] + rows[:, 5] * 1e4
    settings = {"num_leaves": 15, "use_missing": False, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(rows, label), num_boost_round=25)
    roots = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    tensors = tree_tensors(roots, trees=25, leaves=15)
    at = tensors["threshold"].flatten().numpy()
    # To LightGBM everything up to 1e-35 is zero, and what divides it from the rest is that number.
    at = at[np.isfinite(at) & (abs(at) > 1e-30)]
    beside = [at, np.nextafter(at, np.float32(np.inf)), np.array([0.0, -0.0], np.float32)]
    asked = np.concatenate([rows, drawn.choice(np.concatenate(beside), (800, 6))])
    found = tree_sums(tensors, torch.from_numpy(asked))[0]
    right = torch.from_numpy(np.asarray(booster.predict(asked))).float()
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


def test_growing_minimises_the_listwise_loss_from_the_first_stage_on() -> None:
    train = planted(300, 1)
    installed(QUICK)
    losses = [loss(train.inputs.score, train)]
    for trees in (1, 5, 30):
        ranker = QUICK.model_copy(update={"trees": trees})
        losses.append(loss(scores(ranker, fitted(ranker, train), train, train), train))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.6 * losses[0]


def test_what_depends_on_the_size_of_the_support_is_learned() -> None:
    """A feature is good after one size and bad after the other: one model serves both."""
    installed(QUICK)
    train, unseen = (
        one._replace(
            inputs=one.inputs._replace(
                features=one.inputs.features * (2 * one.inputs.size[:, None, None] - 1)
            )
        )
        for one in (planted(600, 2), planted(200, 3))
    )
    before = float(ndcg_of(unseen.inputs.score, unseen, depth=10).mean())
    assert quality(QUICK, fitted(QUICK, train), unseen, train) > before + 0.2


def test_the_shape_of_a_fit_is_that_of_its_settings() -> None:
    found = fitted(installed(QUICK), planted(150, 4))
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "feature": (1, 30, 5),
        "threshold": (1, 30, 5),
        "struck": (1, 30, 5),
        "leaf": (1, 30, 6),
    }


def test_what_the_first_stage_has_no_number_for_has_none() -> None:
    asked = planted(4, 5)
    told = fitted(installed(QUICK), planted(150, 6))
    asked.inputs.score[1, 2] = torch.nan
    found = scores(QUICK, told, asked, asked)
    assert found.isnan().nonzero().tolist() == [[1, 2]]


def test_without_lightgbm_the_fit_is_refused_and_the_scores_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = planted(4, 7)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(
        MachineError,
        match=r"^second_stage.ranker boosted_trees needs the package lightgbm, which is not "
        r"installed: pip install 'metarec_ray\[boosting\]'$",
    ):
        fitted(QUICK, planted(5, 8))
    nothing = tree_tensors([], trees=3, leaves=4)
    assert torch.equal(scores(QUICK, nothing, asked, asked), asked.inputs.score)


def test_a_library_that_cannot_be_loaded_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lightgbm.py").write_text("raise OSError('libgomp.so.1: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    with pytest.raises(MachineError, match=r"which cannot be loaded: libgomp.so.1: no such file"):
        QUICK.require_installed()


def test_one_seed_and_another_draw_other_inputs_to_split_by() -> None:
    train = planted(150, 9)
    scale = scale_of(train.inputs.features, train.inputs.real)
    ranker = installed(QUICK)
    feature = [ranker.fit(train, scale, sizes=2, seed=seed)["feature"] for seed in (0, 1)]
    assert not torch.equal(*feature)
