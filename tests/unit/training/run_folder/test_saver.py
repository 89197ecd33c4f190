"""Checkpoints written beside training: in order, of the moment they were asked for, and told."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from metarec_ray import checkpoint as checkpoints
from metarec_ray.checkpoint import Checkpoint, committed, latest
from metarec_ray.config.running import Keep
from metarec_ray.errors import CheckpointError
from metarec_ray.training.run_folder.saver import Saver


def at(step: int, weight: torch.Tensor) -> Checkpoint:
    state = {"step": step, "seed": 0, "store_sha256": ""}
    return Checkpoint({"weight": weight}, {"moment": weight}, {}, {}, {}, state, b"")


def steps(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in committed(folder)]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let writes wait for the event."""
    go, real = threading.Event(), checkpoints.save_step

    def waiting(checkpoint: Checkpoint, folder: Path, *, allow: Callable[[], None]) -> Path:
        assert go.wait(30)
        return real(checkpoint, folder, allow=allow)

    monkeypatch.setattr(checkpoints, "save_step", waiting)
    return go


def test_a_quick_write_is_waited_for_and_old_ones_are_removed(tmp_path: Path) -> None:
    with Saver(tmp_path, Keep(last=2), patience_s=30) as saver:
        for step in (1, 2, 3):
            saver.save(at(step, torch.zeros(2)))
            assert steps(tmp_path)[-1] == step
    assert steps(tmp_path) == [2, 3]


def test_a_slow_write_is_of_the_moment_and_training_goes_on(
    tmp_path: Path, slow: threading.Event
) -> None:
    weight = torch.ones(2)
    with Saver(tmp_path, Keep(), patience_s=0) as saver:
        saver.save(at(1, weight))
        assert steps(tmp_path) == []
        weight += 1  # a step changes parameters in place
        slow.set()
    found = latest(tmp_path)
    assert found is not None
    assert found[1].model["weight"].tolist() == found[1].optimizer["moment"].tolist() == [1, 1]


def test_the_next_write_waits_for_the_one_before(tmp_path: Path, slow: threading.Event) -> None:
    with Saver(tmp_path, Keep(), patience_s=0) as saver:
        saver.save(at(1, torch.zeros(2)))
        threading.Timer(0.05, slow.set).start()
        saver.save(at(2, torch.zeros(2)))
        assert steps(tmp_path)[0] == 1
    assert steps(tmp_path) == [1, 2]


def test_a_failure_is_told_at_the_next_write_or_the_end(
    tmp_path: Path, slow: threading.Event
) -> None:
    (tmp_path / "file").touch()
    saver = Saver(tmp_path / "file", Keep(), patience_s=0)
    saver.save(at(1, torch.zeros(2)))
    slow.set()
    with pytest.raises(CheckpointError, match=r"a checkpoint must be writable"):
        saver.save(at(2, torch.zeros(2)))
    slow.clear()
    saver.save(at(3, torch.zeros(2)))
    slow.set()
    with pytest.raises(CheckpointError, match=r"a checkpoint must be writable"), saver:
        pass


def test_an_error_of_training_is_not_hidden_by_one_of_the_disk(
    tmp_path: Path, slow: threading.Event
) -> None:
    (tmp_path / "file").touch()

    def train() -> None:
        with Saver(tmp_path / "file", Keep(), patience_s=0) as saver:
            saver.save(at(1, torch.zeros(2)))
            slow.set()
            raise KeyError("training")

    with pytest.raises(KeyError, match="training"):
        train()
