"""What a run's folder says of whether it moves: files with times of their own."""

import json
import os
from pathlib import Path

import pytest
import torch

from metarec_ray.checkpoint import CHECKPOINTS, Checkpoint, save_step
from metarec_ray.engine.cluster.one_writer import NAME, holder, one_writer
from metarec_ray.engine.train.status import status
from metarec_ray.errors import DataError
from metarec_ray.training.run_folder import events_log, metrics_log
from metarec_ray.training.run_folder.metrics_log import Progress

NOW = 1_700_000_000.0


def at(path: Path, seconds_ago: float) -> None:
    moment = NOW - seconds_ago
    os.utime(path, (moment, moment))


def line(folder: Path, step: int, *, ago: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(step, 100, 0.5, "query_ndcg@10", 0.2, 10.0, 0.01)
    metrics_log.append(folder / metrics_log.NAME, progress)
    at(folder / metrics_log.NAME, ago)


def saved(folder: Path, step: int, *, ago: float) -> None:
    config = {"train": {"steps": 100}}
    state = {"step": step, "seed": 0, "store_sha256": ""}
    held = Checkpoint({"w": torch.zeros(1)}, {}, config, {}, {}, state, b"")
    at(save_step(held, folder / CHECKPOINTS), ago)


def event(folder: Path, kind: events_log.Kind, sentence: str, *, ago: float, **more) -> None:
    events_log.append(folder, kind, sentence, **more)
    at(folder / events_log.NAME, ago)


def found(folder: Path):
    return status(folder, clock=lambda: NOW)


def test_a_folder_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a run has metrics, events or checkpoints"):
        status(tmp_path)


def test_a_run_that_somebody_writes_runs_until_it_stands_still(tmp_path: Path) -> None:
    event(tmp_path, "started", "2 workers on a, b", ago=90, step=0, nodes=("a", "b", "a"))
    saved(tmp_path, 20, ago=80)
    line(tmp_path, 30, ago=5)
    with one_writer(tmp_path):
        moving = found(tmp_path)
        line(tmp_path, 40, ago=75)
        still = found(tmp_path)
    assert (moving.state, moving.step, moving.steps, moving.loss) == ("running", 30, 100, 0.5)
    assert (moving.since_s, moving.checkpoint_age_s) == (5.0, 80.0)
    assert moving.nodes == ("a", "b")
    assert moving.waiting_for is None
    assert f"process {os.getpid()}" in (moving.writer or "")
    assert "step 30 of 100, loss 0.5000" in moving.sentence()
    assert (still.state, still.waiting_for) == ("waiting", "the next line of progress")
    stopped = found(tmp_path)
    assert (stopped.state, stopped.writer) == ("stopped", None)


def test_what_a_run_waits_for_after_a_failure_and_the_failure_are_told(tmp_path: Path) -> None:
    line(tmp_path, 30, ago=200)
    event(tmp_path, "failed", "rank 1: killed", ago=100)
    with one_writer(tmp_path):
        waiting = found(tmp_path)
    assert (waiting.state, waiting.waiting_for) == ("waiting", "workers to start again")
    assert waiting.sentence().endswith("last failure: rank 1: killed")
    event(tmp_path, "started", "1 worker on a from step 20", ago=1, nodes=("a",))
    with one_writer(tmp_path):
        again = found(tmp_path)
    assert (again.state, again.last_failure) == ("running", "rank 1: killed")


@pytest.mark.parametrize(("step", "state"), [(0, "finished"), (100, "finished"), (80, "stopped")])
def test_a_run_whose_last_checkpoint_is_the_last_is_finished(
    tmp_path: Path, step: int, state: str
) -> None:
    saved(tmp_path, step, ago=10)
    assert found(tmp_path).state == state


@pytest.mark.parametrize("name", ["state.json", "config.json"])
@pytest.mark.parametrize(
    "text", ["null", "[]", "3", '"x"', '{"train": null}', '{"step": null}', "{"]
)
def test_a_run_whose_last_checkpoint_is_damaged_is_not_finished(
    tmp_path: Path, name: str, text: str
) -> None:
    saved(tmp_path, 100, ago=5)
    (tmp_path / CHECKPOINTS / "step-00000100" / name).write_text(text)
    assert found(tmp_path).state == "stopped"


def test_the_member_that_moved_last_is_what_is_told(tmp_path: Path) -> None:
    line(tmp_path / "members" / "ridge", 100, ago=50)
    line(tmp_path / "members" / "attention", 7, ago=2)
    told = found(tmp_path)
    assert (told.member, told.step, told.since_s, told.state) == ("attention", 7, 2.0, "stopped")
    assert "(attention)" in told.sentence()


def test_a_line_that_is_not_whole_is_no_event(tmp_path: Path) -> None:
    event(tmp_path, "failed", "rank 0: killed", ago=1)
    with (tmp_path / events_log.NAME).open("a") as file:
        file.write('{"kind": "failed", "ti')
    assert [one.sentence for one in events_log.read(tmp_path)] == ["rank 0: killed"]


def test_looking_at_who_writes_keeps_nobody_out(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    (tmp_path / NAME).touch()  # what a killed writer leaves
    assert holder(tmp_path) is None
    with one_writer(tmp_path):
        assert str(os.getpid()) in (holder(tmp_path) or "")
    assert holder(tmp_path) is None


def test_a_sweep_is_told_by_its_trials(tmp_path: Path) -> None:
    (tmp_path / "sweep" / "trial_1").mkdir(parents=True)
    space = "{train.outer_lr: {low: 0.1, high: 1.0}}"
    (tmp_path / "sweep.yaml").write_text(f"sweep: {{trials: 4, space: {space}}}\n")
    (tmp_path / "sweep" / "trial_1" / "result.json").touch()
    states = ["TERMINATED", "ERROR", "RUNNING", "PENDING"]
    trials = [[json.dumps({"status": one}), "{}"] for one in states]
    state = tmp_path / "sweep" / "experiment_state-2.json"
    state.write_text(json.dumps({"trial_data": trials}))
    at(tmp_path / "sweep" / "trial_1" / "result.json", 90)
    with one_writer(tmp_path):
        told = found(tmp_path)
    assert (told.state, told.since_s, told.waiting_for) == ("waiting", 90.0, "the next of trials")
    assert told.done == ("trials", 2, 4, False)
    assert "2 of 4 trials ended" in told.sentence()
    assert found(tmp_path).state == "stopped"
    state.write_text(json.dumps({"trial_data": trials[:1] * 4}))
    (tmp_path / "sweep.json").touch()
    assert found(tmp_path).state == "finished"


def test_a_bench_is_told_by_its_cells(tmp_path: Path) -> None:
    cells = tmp_path / "bench" / "melu" / "cells"
    cells.mkdir(parents=True)
    for name, ago in (("ease-s0-1.json", 40), ("ease-s0-1.parquet", 40), ("anil-s0-1.json", 10)):
        (cells / name).touch()
        at(cells / name, ago)
    told = found(tmp_path)
    assert (told.state, told.since_s) == ("stopped", 10.0)
    assert told.done == ("cells", 2, None, False)
    (tmp_path / "bench" / "melu" / "results.json").touch()
    assert found(tmp_path).state == "finished"
