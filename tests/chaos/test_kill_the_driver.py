"""The process a user started dies at any moment; the same command again ends with the same bits."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Container
from pathlib import Path

import psutil
import pytest

from metarec_ray.config.experiment import dump, parse
from metarec_ray.training.run_folder import events_log

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def command(config: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "metarec_ray", "train", str(config), "--json", *words]


def config_of(folder: Path, store: Path) -> Path:
    tree = {
        "run": {"dir": str(folder), "store": str(store)},
        "model": {"dim": 16},
        "train": {"steps": 300, "checkpoint_every": 20, "log_every": 10, "lane_tasks": 16},
    }
    path = folder.with_suffix(".yaml")
    path.write_text(dump(parse(tree, "the test")))
    return path


def finish(config: Path, *words: str) -> str:
    done = subprocess.run(command(config, *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["parameters_sha256"]


@pytest.fixture(scope="module")
def clean(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return finish(config_of(tmp_path_factory.mktemp("clean") / "run", synthetic_store))


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_driver_resumes_to_the_same_parameters(
    clean: str, synthetic_store: Path, tmp_path: Path, seed: int
) -> None:
    config = config_of(tmp_path / "run", synthetic_store)
    driver = subprocess.Popen(command(config), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    children = _wait_for_a_checkpoint(driver, tmp_path / "run" / "checkpoints")
    time.sleep(random.Random(seed).uniform(0.0, 1.5))
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert finish(config) == clean
    # Ray's agents look for their parent now and then; none may outlive it for long.
    _, alive = psutil.wait_procs(children, timeout=150)
    assert alive == []


@pytest.mark.timeout(1500)
def test_one_two_one_and_four_workers_in_turn_end_with_the_same_parameters(
    clean: str, synthetic_store: Path, tmp_path: Path
) -> None:
    config, checkpoints = config_of(tmp_path / "run", synthetic_store), tmp_path / "run/checkpoints"
    for workers in (1, 2, 1):
        known = {path.name for path in checkpoints.glob("step-*")}
        line = command(config, "--set", f"train.num_workers={workers}")
        driver = subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        family = _wait_for_a_checkpoint(driver, checkpoints, known)
        driver.kill()
        driver.wait()
        for process in family:  # Ray's would go by themselves, within minutes
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    four = ("--set", "train.num_workers=4", "--set", "train.cpus_per_worker=0.4")
    assert finish(config, *four) == clean
    begun = [event for event in events_log.read(tmp_path / "run") if event.kind == "started"]
    assert [len(event.nodes) for event in begun] == [1, 2, 1, 4]
    steps = [event.step or 0 for event in begun]
    assert steps == sorted(set(steps))


def _wait_for_a_checkpoint(
    driver: "subprocess.Popen[bytes]", folder: Path, known: Container[str] = ()
) -> list[psutil.Process]:
    deadline = time.monotonic() + 300
    while not any(path.parent.name not in known for path in folder.glob("step-*/COMMITTED")):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return psutil.Process(driver.pid).children(recursive=True)
