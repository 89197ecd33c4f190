"""The process a user started dies at any moment; the same command again ends with the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from metarec_ray.config.experiment import dump, parse

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "metarec_ray", "train", str(config), "--json"]


def config_of(folder: Path, store: Path) -> Path:
    tree = {
        "run": {"dir": str(folder), "store": str(store)},
        "model": {"dim": 16},
        "train": {"steps": 300, "checkpoint_every": 20, "log_every": 10, "lane_tasks": 16},
    }
    path = folder.with_suffix(".yaml")
    path.write_text(dump(parse(tree, "the test")))
    return path


def finish(config: Path) -> str:
    done = subprocess.run(command(config), capture_output=True, text=True, check=False)
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


def _wait_for_a_checkpoint(driver: "subprocess.Popen[bytes]", folder: Path) -> list[psutil.Process]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(folder.glob("step-*/COMMITTED")):
        time.sleep(0.05)
    return psutil.Process(driver.pid).children(recursive=True)
