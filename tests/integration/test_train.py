"""Training on Ray: the same bits whatever computes them, and whatever dies on the way."""

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

from metarec_ray.checkpoint import CHECKPOINTS, parameters_sha256
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.train.driver import TrainResult, train
from metarec_ray.errors import CheckpointError, ConfigError
from metarec_ray.training.fit import fit
from metarec_ray.training.run_folder import metrics_log

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
STEPS = 50


def experiment(folder: Path, store: Path, **changes: object) -> Experiment:
    tree = {
        "run": {"dir": str(folder), "store": str(store), "seed": 3},
        "model": {"dim": 8, "user_ids": True},
        "train": {
            "steps": STEPS,
            "lanes": 3,
            "lane_tasks": 8,
            "checkpoint_every": 10,
            "log_every": 5,
            "num_workers": 2,
        },
    }
    return override(parse(tree, "the test"), dict(changes))


def quiet(line: str) -> None:
    """Take a line nobody reads."""


def run(settings: Experiment) -> str:
    return train(settings, data_dir=None, progress=quiet).parameters_sha256


@pytest.fixture(scope="module")
def finished(
    ray_session: None, synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Experiment, TrainResult]:
    """A run of two workers that nothing happened to."""
    settings = experiment(tmp_path_factory.mktemp("clean"), synthetic_store)
    return settings, train(settings, data_dir=None, progress=quiet)


@pytest.fixture
def clean(finished: tuple[Experiment, TrainResult]) -> str:
    return finished[1].parameters_sha256


def test_one_and_two_workers_give_the_same_parameters(
    clean: str, synthetic_store: Path, tmp_path: Path
) -> None:
    alone = experiment(tmp_path, synthetic_store, **{"train.num_workers": 1})
    assert run(alone) == clean


def test_sampled_negatives_and_touched_rows_give_the_same_parameters_too(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    sampled = {"train.tasks": {"negatives": 20}, "train.reference_items": 10, "train.steps": 10}
    two = experiment(tmp_path, synthetic_store, **sampled)
    alone = fit(two, TaskStore.open(synthetic_store))
    assert run(two) == parameters_sha256(alone.model)


def test_a_killed_worker_restarts_and_ends_with_the_same_parameters(
    clean: str, synthetic_store: Path, tmp_path: Path
) -> None:
    killed: list[int] = []
    settings = experiment(tmp_path, synthetic_store)
    ended = threading.Event()
    killer = threading.Thread(target=_kill_a_worker, args=(tmp_path, killed, ended))
    killer.start()
    said: list[str] = []
    try:
        found = train(settings, data_dir=None, progress=said.append).parameters_sha256
    finally:
        ended.set()
        killer.join()
    assert len(killed) == 1
    assert found == clean
    told = [line for line in said if line.startswith(("train: failed", "train: going on"))]
    assert [line.split(":")[1].split(" with")[0] for line in told] == [" failed", " going on"]
    assert "rank " in told[0]
    assert "2 workers on" in told[1]
    steps = [line["step"] for line in metrics_log.read(tmp_path / metrics_log.NAME)]
    assert steps == list(range(5, STEPS + 1, 5))


def test_the_same_command_again_has_nothing_to_do(
    finished: tuple[Experiment, TrainResult],
) -> None:
    said: list[str] = []
    settings, first = finished
    assert train(settings, data_dir=None, progress=said.append) == first
    assert said == [f"train: already at step {STEPS} of {STEPS}"]


def test_ctrl_c_is_an_interrupt_and_the_run_resumes_to_the_same_parameters(
    clean: str, synthetic_store: Path, tmp_path: Path
) -> None:
    settings = experiment(tmp_path, synthetic_store)
    pressed: list[str] = []

    def press(line: str) -> None:
        if any((tmp_path / CHECKPOINTS).glob("step-*/COMMITTED")) and not pressed:
            pressed.append(line)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(settings, data_dir=None, progress=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert run(settings) == clean


def test_a_run_does_not_resume_with_another_configuration(
    finished: tuple[Experiment, TrainResult],
) -> None:
    changed = override(finished[0], {"train.outer_lr": 0.5})
    with pytest.raises(CheckpointError, match=r"train.outer_lr was .* choose another run.dir"):
        run(changed)


def test_a_named_store_of_another_feedback_is_refused(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    ratings = experiment(tmp_path, synthetic_store, **{"data.feedback": "explicit"})
    with pytest.raises(ConfigError, match="must be that of the store, implicit, got explicit"):
        run(ratings)


def _kill_a_worker(folder: Path, killed: list[int], ended: threading.Event) -> None:
    """Send SIGKILL to one train worker once a checkpoint is there."""
    while not ended.wait(0.02):
        # To look through all processes takes longer than to look for a file: the file first.
        if any((folder / CHECKPOINTS).glob("step-*/COMMITTED")) and (workers := _workers()):
            os.kill(workers[-1].pid, signal.SIGKILL)
            killed.append(workers[-1].pid)
            return


def _workers() -> list[psutil.Process]:
    own = psutil.Process().children(recursive=True)
    return [process for process in own if _is_worker(process)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False
