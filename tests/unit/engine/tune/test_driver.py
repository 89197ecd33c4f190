"""What a sweep that stopped has left; Tune is played by a few lines."""

import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from metarec_ray.engine.tune.driver import SWEEP, _fit, is_resumable
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
