"""Learners that no outer loop trains, on Ray: train, sweep, a blend."""

import shutil
from pathlib import Path

import pytest

from metarec_ray.algorithms.rivals.neighbours import Ease
from metarec_ray.checkpoint import parameters_sha256
from metarec_ray.config.experiment import Experiment, load, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster.parallel import each
from metarec_ray.engine.evaluate import evaluate
from metarec_ray.engine.train.driver import train
from metarec_ray.engine.tune.driver import sweep
from metarec_ray.errors import CheckpointError
from metarec_ray.evaluation.blend import fit_blend
from metarec_ray.evaluation.second_stage.fit import fit_experiment
from tests.unit.algorithms.second_stage.rankers.lists import installed

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]
EVALUATE = {"ks": [0, 2], "query_size": 2, "min_positives": 4}


def asked(folder: Path, store: Path, **sections: dict) -> Experiment:
    run = {"dir": str(folder), "store": str(store)}
    return parse({"run": run, "evaluate": EVALUATE} | sections, "the test")


def negated(value: int) -> int:
    return -value


def test_calls_beside_each_other_come_back_in_order(ray_session: None) -> None:
    assert each(negated, range(5)) == [0, -1, -2, -3, -4]


def test_a_fitted_learner_is_trained_once_and_refuses_other_settings(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    ease = asked(tmp_path, synthetic_store, algorithm={"name": "ease", "penalty": 5.0})
    first = train(ease, data_dir=None, progress=said.append)
    again = train(ease, data_dir=None, progress=said.append)
    assert first == again
    assert said[-1] == "train: ease is fitted already"
    table = evaluate(
        tmp_path,
        protocol="strict",
        rivals_only=False,
        overrides=["evaluate.force=true"],
        data_dir=None,
        progress=said.append,
    )
    # What was trained stands in the table for the standard method of its name.
    assert [row["k"] for row in table.rows if row["method"] == "ease"] == [0, 2]
    other = asked(tmp_path, synthetic_store, algorithm={"name": "ease", "penalty": 6.0})
    with pytest.raises(CheckpointError, match=r"algorithm.penalty was"):
        train(other, data_dir=None, progress=said.append)


def test_a_blend_says_its_weights_and_takes_up_the_members_it_has(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    members = {
        "maml": {"algorithm.name": "maml", "model.dim": 4, "train.steps": 2, "train.lanes": 2},
        "ease": {"algorithm.name": "ease", "algorithm.penalty": 5.0},
    }
    blend = asked(tmp_path, synthetic_store, blend={"members": members})
    said: list[str] = []
    first = train(blend, data_dir=None, progress=said.append)
    assert any(line.startswith("train: blend: after 2 events ease ") for line in said)
    assert "train: member maml-final (4 of 4)" in said
    shutil.rmtree(tmp_path / "checkpoints")
    shutil.rmtree(tmp_path / "members" / "ease-final")
    said.clear()
    assert train(blend, data_dir=None, progress=said.append)[2] == first.parameters_sha256
    assert said.count("train: already at step 2 of 2") == 2
    alone = fit_blend(blend, TaskStore.open(synthetic_store))
    assert parameters_sha256(alone.model) == first.parameters_sha256


def test_a_second_stage_takes_up_the_folds_it_has_and_gives_the_bits_of_one_process(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    stages = asked(
        tmp_path,
        synthetic_store,
        algorithm={"name": "maml"},
        model={"dim": 4},
        train={"steps": 2, "lanes": 2, "num_workers": 1},
        second_stage={"folds": 2, "candidates": 10, "ranker": {"epochs": 1}},
    )
    said: list[str] = []
    first = train(stages, data_dir=None, progress=said.append)
    assert "train: fitting maml with a second stage" in said
    assert sum(line.startswith("train: fold first-fold") for line in said) == 2
    assert any(line.startswith("train: second stage: after 2 events") for line in said)
    kept = tmp_path / "members" / "first-fold0" / "checkpoints"
    written = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    shutil.rmtree(tmp_path / "checkpoints")
    shutil.rmtree(tmp_path / "members" / "first-fold1")
    again = train(stages, data_dir=None, progress=said.append)
    assert again.parameters_sha256 == first.parameters_sha256
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == written
    alone = fit_experiment(stages, TaskStore.open(synthetic_store))
    assert parameters_sha256(alone.model) == first.parameters_sha256
    assert train(stages, data_dir=None, progress=said.append) == again
    assert said[-1] == "train: maml with a second stage is fitted already"


def test_trees_of_a_second_stage_are_the_bits_of_one_process(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    trees = {"name": "boosted_trees", "trees": 5, "min_items": 20}
    stages = asked(
        tmp_path,
        synthetic_store,
        algorithm={"name": "popularity"},
        second_stage={"folds": 2, "candidates": 20, "ranker": trees},
    )
    assert stages.second_stage is not None
    installed(stages.second_stage.ranker)
    found = train(stages, data_dir=None, progress=print)
    alone = fit_experiment(stages, TaskStore.open(synthetic_store))
    assert parameters_sha256(alone.model) == found.parameters_sha256


def test_a_sweep_over_a_rival_picks_its_penalty(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    space = {"algorithm.penalty": {"choices": [1e-3, 5.0]}}
    experiment = asked(
        tmp_path,
        synthetic_store,
        algorithm={"name": "ease"},
        sweep={"trials": 4, "rungs": 1, "space": space},
    )
    found = sweep(experiment, resume=False, data_dir=None, progress=print)
    algorithm = load(found.best).algorithm
    assert isinstance(algorithm, Ease)
    assert algorithm.penalty == found.values["algorithm.penalty"] == 5.0
