"""Transfer on Ray: a source run, a warm and frozen target, shards averaged, periods."""

import json
from pathlib import Path

import pytest

from metarec_ray.algorithms.base import ALONE
from metarec_ray.checkpoint import parameters_sha256
from metarec_ray.cli.app import main
from metarec_ray.config.experiment import Experiment, dump, override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.train.driver import train
from metarec_ray.errors import CheckpointError
from metarec_ray.training.fit import fit

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]
TRAIN = {
    "num_workers": 1, "steps": 4, "lanes": 2, "lane_tasks": 4, "reference_items": 8, "log_every": 2,
    "tasks": {"ks": [0, 2], "window": 2, "query_size": 2},
}  # fmt: skip


def asked(folder: Path, store: Path, **values: object) -> Experiment:
    run = {"dir": str(folder), "store": str(store)}
    base = parse({"run": run, "model": {"dim": 3}, "train": TRAIN}, "the test")
    return override(base, {f"train.{key}": value for key, value in values.items()})


def test_shards_beside_each_other_give_the_bits_of_one_process(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    average = {"shards": 2, "rounds": 2}
    averaged = asked(tmp_path / "a", synthetic_store, average=average)
    found = train(averaged, data_dir=None, progress=said.append)
    alone = fit(averaged, TaskStore.open(synthetic_store), fitting=ALONE)
    assert found.parameters_sha256 == parameters_sha256(alone.model)
    assert train(averaged, data_dir=None, progress=said.append) == found
    assert said[-1] == "train: already at step 4 of 4"
    # Fine-tuning of what was averaged, its items frozen, on workers of Ray Train.
    source = str(tmp_path / "a")
    warm = asked(tmp_path / "b", synthetic_store, init_from=source, freeze=["item", "user"])
    tuned = train(warm, data_dir=None, progress=said.append)
    assert any("gives" in line and "rows of item.ids" in line for line in said)
    assert tuned.parameters_sha256 != found.parameters_sha256
    assert train(warm, data_dir=None, progress=said.append) == tuned


def test_a_student_of_a_blend_has_the_same_bits_on_workers_and_alone(
    ray_session: None, synthetic_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    members = {"a": {"algorithm.name": "ease"}, "b": {"algorithm.name": "popularity"}}
    base = asked(tmp_path / "teacher", synthetic_store)
    train(override(base, {"blend.members": members}), data_dir=None, progress=said.append)
    taught = asked(tmp_path / "student", synthetic_store, teacher=str(tmp_path / "teacher"))
    found = train(override(taught, {"train.num_workers": 2}), data_dir=None, progress=said.append)
    assert any("teaches (blend)" in line for line in said)
    alone = fit(taught, TaskStore.open(synthetic_store))
    assert found.parameters_sha256 == parameters_sha256(alone.model)
    assert train(taught, data_dir=None, progress=said.append) == found
    # The command line is the same run, and refuses what cannot teach before it trains.
    config = tmp_path / "student.yaml"
    config.write_text(dump(override(taught, {"train.teacher": None})))
    assert main(["distil", str(tmp_path / "teacher"), str(config), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["parameters_sha256"] == found.parameters_sha256
    assert main(["distil", str(tmp_path), str(config)]) == 2
    assert "train.teacher must be a checkpoint" in capsys.readouterr().err


def test_periods_write_what_is_forgotten(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    experiment = asked(tmp_path / "run", synthetic_store, periods=2)
    found = train(experiment, data_dir=None, progress=said.append)
    table = json.loads((tmp_path / "run" / "forgetting.json").read_text())
    assert [len(row) for row in table["quality"]] == [2, 2]
    lost = table["quality"][0][0] - table["quality"][1][0]
    assert table["forgetting"] == pytest.approx([lost])
    assert said[-1].startswith("train: after period 2  query_ndcg@10 ")
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert steps == [2, 4]
    assert train(experiment, data_dir=None, progress=said.append) == found
    with pytest.raises(CheckpointError, match=r"train.periods was"):
        train(override(experiment, {"train.periods": 1}), data_dir=None, progress=said.append)
