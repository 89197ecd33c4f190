"""Which run a table belongs to: the one that was named, wherever it lies now."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from metarec_ray.checkpoint import CHECKPOINTS, save_step
from metarec_ray.config.experiment import Experiment, absolute, parse
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.fit import fit

TABLE = "evaluation-melu.json"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a run of two ratings a user, `runs/a`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text(
        "user,item,stars\n"
        + "".join(
            f"{user},{item},{1 + (user * item + user // 7) % 5}\n"
            for user in range(60)
            for item in range(user % 3, 50, 2)
        )
    )
    trained(experiment(), tmp_path / "runs/a")
    return tmp_path


def experiment() -> Experiment:
    tree = {
        "run": {"dir": "runs/a"},
        "data": {
            "path": "log.csv",
            "feedback": "explicit",
            "columns": {"label": "stars"},
            "buckets": 1,
            "cold_items": 0.3,
        },
        "algorithm": {"name": "user_item_bias"},
        "evaluate": {
            "force": True,
            "resamples": 100,
            "ratings": {"query_size": 6, "min_ratings": 8},
        },
    }
    return parse(tree, "here")


def trained(asked: Experiment, run: Path) -> None:
    build_store(read_log(asked.data), asked.data, run / "store")
    fitted = fit(absolute(asked, Path.cwd()), TaskStore.open(run / "store"))
    save_step(fitted, run / CHECKPOINTS)


def judged(target: Path) -> tuple[list[dict[str, Any]], list[str]]:
    # Here and not above: with it come ray.data and ray.train, two seconds, and of several workers
    # one needs them.
    from metarec_ray.engine.evaluate import evaluate

    said: list[str] = []
    found = evaluate(
        target,
        protocol="melu",
        rivals_only=False,
        overrides=(),
        data_dir=None,
        progress=said.append,
    )
    return found.rows, said


def test_a_table_lies_in_the_run_that_was_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree("runs/a", "elsewhere/moved")
    (home / "log.csv").unlink()  # a checkpoint is judged on the store it was trained on
    (home / "other").mkdir()
    monkeypatch.chdir(home / "other")
    rows, _ = judged(Path("../elsewhere/moved"))
    assert json.loads((home / "elsewhere/moved" / TABLE).read_text())["rows"] == rows
    assert not (home / "runs/a" / TABLE).exists()
    step = home / "runs/a/checkpoints/step-00000000"
    assert [row["rmse"] for row in judged(step)[0]] == [row["rmse"] for row in rows]
    assert (home / "runs/a" / TABLE).exists()


def test_a_checkpoint_that_was_made_with_paths_of_its_working_folder_is_judged(home: Path) -> None:
    path = home / "runs/a/checkpoints/step-00000000"
    shutil.rmtree(path)
    asked = experiment()
    fitted = fit(asked, TaskStore.open(home / "runs/a/store"))
    tree = json.loads(asked.model_dump_json())
    del tree["run"]["relative_to"]
    save_step(fitted._replace(config=tree), path.parent)
    (home / "runs/a").rename(home / "moved")
    judged(home / "moved")
    assert (home / "moved" / TABLE).exists()


def test_the_table_of_a_checkpoint_in_no_run_is_not_kept(home: Path) -> None:
    shutil.copytree("runs/a/checkpoints/step-00000000", "runs/a/best/checkpoint")
    path = Path("runs/a/best/checkpoint")
    assert f"evaluate: {path} lies in no run, its table is not kept" in judged(path)[1]
    assert list(home.rglob(TABLE)) == []
