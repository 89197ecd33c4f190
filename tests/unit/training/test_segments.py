"""One loop for every way to train: where segments end, what happens there, what is resumed."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from metarec_ray import checkpoint as checkpoints
from metarec_ray.checkpoint import parameters_sha256
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.run_folder.metrics_log import Progress
from metarec_ray.training.segments import (
    checkpoint_steps,
    resume,
    save,
    segments_of,
    train_segments,
)
from metarec_ray.training.trainer import Trainer

SMALL = {
    "model": {"dim": 4},
    "train": {
        "num_workers": 1, "steps": 10, "lanes": 2, "lane_tasks": 4, "reference_items": 16,
        "checkpoint_every": 4, "log_every": 4,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


def experiment(**values: Any) -> Experiment:
    return override(parse(SMALL, "test"), {k.replace("__", "."): v for k, v in values.items()})


def trained(trainer: Trainer, folder: Path) -> list[Progress]:
    """Resume in `folder`, train to the end; return the lines."""
    lines: list[Progress] = []
    train = trainer.experiment.train
    resume(trainer, folder)
    ends = checkpoint_steps(train.steps, train.checkpoint_every)
    train_segments(segments_of(trainer, ends, at_end=partial(save, folder)), report=lines.append)
    return lines


def test_every_segment_ends_with_a_line_and_a_checkpoint(store: TaskStore, tmp_path: Path) -> None:
    lines = trained(Trainer(experiment(), store), tmp_path)
    names = [path.name for path in checkpoints.committed(tmp_path)]
    assert names == ["step-00000004", "step-00000008", "step-00000010"]
    assert [line.step for line in lines] == [4, 8, 10]
    assert all(line.steps == 10 and line.tasks_per_s > 0 for line in lines)
    metrics = checkpoints.load(checkpoints.step_path(tmp_path, 8)).metrics
    assert metrics["query_loss"] == lines[1].loss
    assert metrics["query_ndcg@10"] == lines[1].metric
    assert metrics["seconds"] >= 0


def test_a_run_goes_on_from_its_last_good_checkpoint_to_the_same_bits(
    store: TaskStore, tmp_path: Path
) -> None:
    trained(Trainer(experiment(), store), tmp_path)
    last = checkpoints.step_path(tmp_path, 10)
    (last / "model.safetensors").write_bytes(b"")
    again = Trainer(experiment(), store)
    assert [line.step for line in trained(again, tmp_path)] == [10]
    fresh = Trainer(experiment(), store)
    assert [line.step for line in fresh.run(10)] == [4, 8, 10]
    assert parameters_sha256(again.parameters()) == parameters_sha256(fresh.parameters())
    assert checkpoints.load(last).state["step"] == 10


def test_a_run_that_resumes_with_other_checkpoint_steps_ends_segments_at_those(
    store: TaskStore, tmp_path: Path
) -> None:
    checkpoints.save_step(Trainer(experiment(), store).checkpoint({}), tmp_path)
    trainer = Trainer(experiment(train__checkpoint_every=6), store)
    for _ in trainer.run(4):
        pass
    checkpoints.save_step(trainer.checkpoint({}), tmp_path)
    trained(Trainer(trainer.experiment, store), tmp_path)
    names = [path.name for path in checkpoints.committed(tmp_path)]
    assert names == [f"step-{step:08d}" for step in (4, 6, 10)]  # the newest three


def test_a_finished_run_has_nothing_to_do(store: TaskStore, tmp_path: Path) -> None:
    asked = experiment(train__steps=2)
    trained(Trainer(asked, store), tmp_path)
    before = (tmp_path / "step-00000002").stat().st_mtime_ns
    assert trained(Trainer(asked, store), tmp_path) == []
    assert (tmp_path / "step-00000002").stat().st_mtime_ns == before


def test_segments_that_end_at_one_step_are_one(store: TaskStore) -> None:
    """Rungs of a sweep with fewer steps than rungs."""
    ends: list[int] = []
    trainer = Trainer(experiment(train__steps=2), store)
    segments = segments_of(
        trainer, [0, 1, 1, 2], at_end=lambda trainer, _: ends.append(trainer.step)
    )
    metrics = train_segments(segments, report=lambda line: None)
    assert ends == [1, 2]
    assert set(metrics) == {"query_loss", "query_ndcg@10", "seconds"}
