"""Which checkpoints stay: the newest, the best, and nothing half removed."""

from pathlib import Path

import pytest
import torch

from metarec_ray.checkpoint import METRICS, Checkpoint, committed, latest, save_step
from metarec_ray.checkpoint import step_path as at
from metarec_ray.config.running import Keep, Train
from metarec_ray.training.run_folder.retention import retain

LOSSES = {10: 3.0, 20: 1.0, 30: 2.0, 40: 1.0, 50: 4.0}


def saved(folder: Path, losses: dict[int, float | None] | dict[int, float] = LOSSES) -> None:
    for step, loss in losses.items():
        metrics = {} if loss is None else {"query_loss": loss}
        state = {"step": step, "seed": 0, "store_sha256": ""}
        model = {"weight": torch.full((2,), float(step))}
        save_step(Checkpoint(model, {}, {}, {}, metrics, state, b""), folder)


def steps(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in committed(folder)]


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (Keep(last=1), [50]),
        (Keep(last=3), [30, 40, 50]),
        (Keep(last=6), [10, 20, 30, 40, 50]),
        (Keep(last=99), [10, 20, 30, 40, 50]),
        (Keep(last=1, best=1), [40, 50]),  # of two with the least loss the newer one
        (Keep(last=1, best=2), [20, 40, 50]),
        (Keep(last=2, best=1), [40, 50]),  # one that is kept anyhow counts
    ],
)
def test_the_newest_and_the_best_stay(tmp_path: Path, keep: Keep, left: list[int]) -> None:
    saved(tmp_path)
    gone = retain(tmp_path, keep, written=at(tmp_path, 50))
    assert steps(tmp_path) == left
    assert sorted([*left, *(int(path.name.removeprefix("step-")) for path in gone)]) == [*LOSSES]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{n:08d}" for n in left]
    assert retain(tmp_path, keep, written=at(tmp_path, 50)) == []


def test_one_without_a_loss_or_with_unreadable_metrics_is_not_the_best(tmp_path: Path) -> None:
    saved(tmp_path, {1: None, 2: 5.0, 3: 0.5, 4: 9.0})
    (tmp_path / "step-00000003" / METRICS).write_text("{")
    retain(tmp_path, Keep(last=1, best=1), written=at(tmp_path, 4))
    assert steps(tmp_path) == [2, 4]


def test_what_a_kill_left_half_removed_is_removed_and_never_read(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "step-00000010").rename(tmp_path / ".step-00000010.removed")
    (tmp_path / ".step-00000010.removed" / METRICS).unlink()
    assert steps(tmp_path) == [20, 30, 40, 50]
    retain(tmp_path, Keep(last=9), written=at(tmp_path, 50))
    assert not list(tmp_path.glob(".*"))


def test_one_that_was_just_written_stays_beside_damaged_later_ones(tmp_path: Path) -> None:
    # A run that went on from step 20, past damage, has written step 30 anew.
    saved(tmp_path)
    for step in (40, 50):
        (at(tmp_path, step) / METRICS).write_text("{}")
    retain(tmp_path, Keep(last=1), written=at(tmp_path, 30))
    assert steps(tmp_path) == [30, 40, 50]
    found = latest(tmp_path)
    assert found is not None
    assert found[1].state["step"] == 30


def test_a_disk_that_refuses_to_remove_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path)

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    assert retain(tmp_path, Keep(last=2), written=at(tmp_path, 50)) == []
    found = latest(tmp_path)
    assert found is not None
    assert found[1].state["step"] == 50
    assert steps(tmp_path) == [*LOSSES]


def test_a_run_keeps_one_at_least_and_periods_keep_all() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Keep(last=0)
    with pytest.raises(ValueError, match=r"keep needs periods 1, got .*periods 2"):
        Train(periods=2, keep=Keep(last=1))
