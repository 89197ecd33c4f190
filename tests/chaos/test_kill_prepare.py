"""SIGKILL to all that prepares, at any moment: the old store reads whole, the next run ends."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
import yaml

from metarec_ray.data.store.manifest import Manifest, load, verify
from metarec_ray.data.tasks.task_store import TaskStore

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]

KILLS, ROWS, USERS = 20, 1_000_000, 20_000


def config(folder: Path, name: str, *, buckets: int) -> Path:
    path = folder / f"{name}.yaml"
    data = {
        "path": str(folder / "log"),
        "feedback": "explicit",
        "columns": {"label": "rating", "time": "time"},
        "buckets": buckets,
    }
    path.write_text(yaml.safe_dump({"run": {"dir": str(folder / name)}, "data": data}))
    return path


def generate(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        count = ROWS // 4
        pl.DataFrame(
            {
                "user": rng.integers(0, USERS, count),
                "item": rng.integers(0, 500, count),
                "rating": rng.integers(1, 6, count).astype(np.float32),
                "time": rng.integers(0, 10**8, count),
            }
        ).write_parquet(folder / f"{number}.parquet", row_group_size=50_000)


def start(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "metarec_ray", "prepare", str(path)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all below it at once, Ray among them."""
    own = psutil.Process(process.pid)
    family = [own, *own.children(recursive=True)]
    for one in family:
        os.kill(one.pid, signal.SIGSTOP)  # nobody tidies up after another
    for one in family:
        one.kill()
    process.wait()


def prepared(path: Path, store: Path) -> Manifest:
    process = start(path)
    assert process.wait(timeout=300) == 0
    made = load(store)
    verify(store, made)
    return made


def test_any_moment_is_a_good_one_to_be_killed(tmp_path: Path) -> None:
    generate(tmp_path / "log")
    store = tmp_path / "run" / "store"
    first = prepared(config(tmp_path, "run", buckets=4), store)
    begin = time.monotonic()
    expected = prepared(config(tmp_path, "clean", buckets=6), tmp_path / "clean" / "store")
    whole_s = time.monotonic() - begin

    rng, again = random.Random(0), config(tmp_path, "run", buckets=6)
    ended, killed = [], 0
    while killed < KILLS:
        process = start(again)
        try:
            ended.append(process.wait(timeout=rng.uniform(0.2, 1.0) * whole_s))
        except subprocess.TimeoutExpired:
            kill_all(process)
            killed += 1
        found = load(store)
        verify(store, found)
        TaskStore.open(store)
        assert found.store_sha256 in (first.store_sha256, expected.store_sha256)
        if found.store_sha256 == expected.store_sha256:  # start anew, from the old store
            assert found.counts == expected.counts
            back = config(tmp_path, "run", buckets=4)
            assert prepared(back, store).store_sha256 == first.store_sha256
            again = config(tmp_path, "run", buckets=6)
    last = prepared(again, store)
    assert set(ended) <= {0}
    assert last.store_sha256 == expected.store_sha256
    assert last.counts == expected.counts
    assert not (store / ".building").exists()
