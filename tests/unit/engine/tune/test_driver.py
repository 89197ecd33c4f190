"""What a sweep that stopped has left, and how its end is told; Tune is played by a few lines."""

import pickle
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from metarec_ray.engine.tune.driver import (
    SWEEP,
    _fit,
    _listening,
    _row,
    _TrialProgress,
    is_resumable,
)
from metarec_ray.errors import RunFailed


class Grid(NamedTuple):
    """Counts of a result grid."""

    num_terminated: int
    num_errors: int


class Tuner:
    """Ends with these counts, with or without Ctrl-C on the way."""

    def __init__(self, grid: Grid, *, interrupted: bool):
        self.grid, self.interrupted = grid, interrupted

    def fit(self) -> Grid:
        before = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, lambda *_: signal.signal(signal.SIGINT, before))
        if self.interrupted:
            signal.raise_signal(signal.SIGINT)
        return self.grid


def test_a_sweep_without_a_written_trial_has_not_is_resumable(tmp_path: Path) -> None:
    assert not is_resumable(tmp_path)
    (tmp_path / SWEEP / "trial_1").mkdir(parents=True)
    (tmp_path / SWEEP / "tuner.pkl").touch()
    assert not is_resumable(tmp_path)
    (tmp_path / SWEEP / "experiment_state-2026-01-01.json").touch()
    assert is_resumable(tmp_path)


def test_all_trials_are_a_result_and_ctrl_c_is_told_as_such() -> None:
    said: list[str] = []
    grid = Grid(3, 1)
    assert _fit(Tuner(grid, interrupted=False), 4, said.append) is grid  # pyright: ignore
    assert said == []
    with pytest.raises(KeyboardInterrupt):
        _fit(Tuner(Grid(1, 1), interrupted=True), 4, said.append)  # pyright: ignore
    assert said == ["tune: interrupted; the same command with --resume continues"]


def test_a_sweep_that_stops_early_is_not_told_as_ctrl_c() -> None:
    said: list[str] = []
    with pytest.raises(
        RunFailed, match=r"must end 4 trials, this one stopped after 2: .* --resume"
    ):
        _fit(Tuner(Grid(1, 1), interrupted=False), 4, said.append)  # pyright: ignore
    assert said == []


def test_ctrl_c_is_told_although_tune_calls_its_stopped_trials_terminated() -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        _fit(Tuner(Grid(4, 0), interrupted=True), 4, said.append)  # pyright: ignore
    assert said == ["tune: interrupted; the same command with --resume continues"]


def test_a_resumed_sweep_tells_its_trials_to_who_resumes_it() -> None:
    said: list[str] = []
    _listening[:] = [said.append]
    told = pickle.loads(pickle.dumps(_TrialProgress(print, "valid_ndcg@10", 3)))
    trial = SimpleNamespace(config={"train.outer_lr": 0.1}, last_result={"step": 5})
    told.on_trial_complete(1, [], trial)
    assert said == ["tune: trial 1/3  valid_ndcg@10 no result  after step 5  train.outer_lr 0.1"]
    _listening.clear()


@pytest.mark.parametrize("found", [float("nan"), float("inf"), None])
def test_a_trial_that_diverged_has_no_result_to_be_the_best_by(found: float | None) -> None:
    metrics = {"step": 5, "loss": found}
    result = SimpleNamespace(config={"train.outer_lr": 9.0}, metrics=metrics, error=None)
    assert _row(result, "loss") == {"values": result.config, "step": 5, "loss": None}
    # What it reached before it broke is not where it ended.
    error = RuntimeError("Traceback ...\n  File x\nOSError: no space left\n")
    broken = SimpleNamespace(config={}, metrics={"step": 5, "loss": 0.1}, error=error)
    lost = {"values": {}, "step": 5, "loss": None, "why": "OSError: no space left"}
    assert _row(broken, "loss") == lost
    said = SimpleNamespace(config={}, metrics=metrics | {"why": "scores are NaN"}, error=None)
    assert _row(said, "loss")["why"] == "scores are NaN"


def test_a_trial_without_a_result_says_why() -> None:
    said: list[str] = []
    last = {"step": 5, "valid_ndcg@10": float("nan"), "why": "scores are NaN"}
    trial = SimpleNamespace(config={"train.outer_lr": 9.0}, last_result=last)
    _TrialProgress(said.append, "valid_ndcg@10", 3).on_trial_complete(1, [], trial)
    assert said[0].endswith(
        "valid_ndcg@10 no result  after step 5  train.outer_lr 9  (scores are NaN)"
    )


def test_a_trial_that_fails_is_told_with_its_reason_and_counted_once() -> None:
    said: list[str] = []
    told = _TrialProgress(said.append, "valid_ndcg@10", 3)
    trial = SimpleNamespace(
        config={"model.dim": 8},
        last_result={"step": 5, "valid_ndcg@10": 0.25},
        get_error=lambda: "Traceback\nray.exceptions.OutOfMemoryError: killed\n",
    )
    told.on_trial_recover(1, [], trial)
    told.on_trial_error(1, [], trial)
    trial.get_error = lambda: None
    told.on_trial_error(1, [], trial)
    why = "(ray.exceptions.OutOfMemoryError: killed)"
    end = "valid_ndcg@10 no result  after step 5  model.dim 8"
    assert said == [
        f"tune: a trial failed and goes on from its last rung  model.dim 8  {why}",
        f"tune: trial 1/3  {end}  {why}",
        f"tune: trial 2/3  {end}  (its process ended)",
    ]
