"""A sweep on Ray: what it writes, that it resumes, and what it refuses."""

import json
import os
import signal
from pathlib import Path

import pytest

from metarec_ray.config.experiment import Experiment, load, override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.tune.driver import BEST, TRIALS, sweep
from metarec_ray.engine.tune.judged import judged
from metarec_ray.errors import ConfigError
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.trainer import Trainer

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def experiment(folder: Path, store: Path) -> Experiment:
    tree = {
        "run": {"dir": str(folder), "store": str(store)},
        "model": {"dim": 4},
        "algorithm": {"name": "fomaml"},
        "train": {"lanes": 2, "lane_tasks": 4},
        "sweep": {
            "trials": 3,
            "steps": 4,
            "rungs": 2,
            "space": {
                "algorithm.inner_lr": {"low": 0.01, "high": 1.0},
                "train.outer_lr": {"low": 0.001, "high": 0.1},
            },
        },
    }
    return parse(tree, "the test")


def test_a_sweep_writes_a_configuration_that_train_takes_and_resumes(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    settings = override(experiment(tmp_path, synthetic_store), {"sweep.max_concurrent": 1})
    said: list[str] = []
    found = sweep(settings, resume=False, data_dir=None, progress=said.append)
    best = load(tmp_path / BEST)
    assert best.algorithm.inner_lr == found.values["algorithm.inner_lr"]  # type: ignore[union-attr]
    assert best.train.outer_lr == found.values["train.outer_lr"]
    assert best.train.steps == settings.train.steps
    assert best.store == synthetic_store
    table = json.loads((tmp_path / TRIALS).read_text())
    assert (table["metric"], table["mode"]) == ("valid_ndcg@10", "max")
    trials = table["trials"]
    assert len(trials) == 3
    results = [path.read_text().splitlines() for path in tmp_path.glob("sweep/*/result.json")]
    assert len(results) == 3
    assert len({json.loads(line)["pid"] for lines in results for line in lines}) == 1
    metrics = [trial["valid_ndcg@10"] for trial in trials]
    assert found.values == trials[metrics.index(max(metrics))]["values"]
    assert len([line for line in said if line.startswith("tune: trial")]) == 3
    with pytest.raises(ConfigError, match="continue it with --resume"):
        sweep(settings, resume=False, data_dir=None, progress=said.append)
    again = sweep(settings, resume=True, data_dir=None, progress=said.append)
    assert again.values == found.values
    other = override(settings, {"train.lane_tasks": 8})
    with pytest.raises(ConfigError, match="the configuration it began with"):
        sweep(other, resume=True, data_dir=None, progress=said.append)


def test_a_sweep_that_is_interrupted_names_no_best_and_resumes(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    settings = override(experiment(tmp_path, synthetic_store), {"sweep.max_concurrent": 1})
    pressed: list[str] = []

    def press(line: str) -> None:
        if line.startswith("tune: trial 1/"):
            pressed.append(line)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sweep(settings, resume=False, data_dir=None, progress=press)
    assert len(pressed) == 1
    assert not (tmp_path / BEST).exists()
    found = sweep(settings, resume=True, data_dir=None, progress=print)
    assert len(found.trials) == 3


def test_a_sweep_by_folds_that_was_interrupted_has_the_values_of_fits_without_each(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    keys = {"sweep.folds": 2, "sweep.max_concurrent": 1, "sweep.trials": 2}
    asked = override(experiment(tmp_path, synthetic_store), keys)

    def press(line: str) -> None:
        if line.startswith("tune: trial 1/"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sweep(asked, resume=False, data_dir=None, progress=press)
    with pytest.raises(ConfigError, match=r"sweep.folds was 2 and is 3"):
        sweep(override(asked, {"sweep.folds": 3}), resume=True, data_dir=None, progress=print)
    sweep(asked, resume=True, data_dir=None, progress=print)
    table = json.loads((tmp_path / TRIALS).read_text())
    assert table["metric"] == "fold_ndcg@10"
    store = TaskStore.open(synthetic_store)
    for trial in table["trials"]:
        alone = []
        for part in judged(override(asked, {**trial["values"], "train.steps": 4}), store):
            trainer = Trainer(part.experiment, store)
            list(trainer.run(trial["step"]))
            alone.append(part.judge.value(Recommender(trainer.checkpoint({})).predictor))
        assert trial["folds"] == alone
        assert trial["fold_ndcg@10"] == sum(alone) / 2


def test_a_vectorised_sweep_finds_what_its_trials_find_alone_and_resumes(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    keys = {"sweep.vectorised": True, "sweep.scheduler": "none"}
    asked = override(experiment(tmp_path, synthetic_store), keys)
    said: list[str] = []
    found = sweep(asked, resume=False, data_dir=None, progress=said.append)
    assert len([line for line in said if line.startswith("tune: trial")]) == 3
    table = json.loads((tmp_path / TRIALS).read_text())
    assert table["trials"] == found.trials
    # What Tune draws with this seed for trials that are alone.
    rates = [round(trial["values"]["algorithm.inner_lr"], 4) for trial in found.trials]
    assert rates == [0.1879, 0.0121, 0.4232]
    store = TaskStore.open(synthetic_store)
    for trial in found.trials:
        own = override(asked, {**trial["values"], "train.steps": 4})
        (part,) = judged(own, store)
        trainer = Trainer(part.experiment, store)
        list(trainer.run(trial["step"]))
        value = part.judge.value(Recommender(trainer.checkpoint({})).predictor)
        assert trial["valid_ndcg@10"] == pytest.approx(value, abs=1e-4)
    again = sweep(asked, resume=True, data_dir=None, progress=said.append)
    assert again.trials == found.trials
    best = load(tmp_path / BEST)
    assert best.train.outer_lr == found.values["train.outer_lr"]


def test_a_space_that_no_trial_could_take_is_refused_before_any_trial(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    settings = experiment(tmp_path, synthetic_store)
    space = {"algorithm.inner_speed": {"low": 0.01, "high": 1.0}}
    wrong = override(settings, {"sweep.space": space})
    with pytest.raises(ConfigError, match="inner_speed is not a known key"):
        sweep(wrong, resume=False, data_dir=None, progress=print)
    assert not (tmp_path / "sweep").exists()
