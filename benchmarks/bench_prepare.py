"""Measure `metarec prepare` on a generated log, beside one polars script that makes the same lists.

    python -m benchmarks.bench_prepare [--rows N] [--users M] [--buckets B] [--giant N] [--json]

The log is Parquet in 10 files: ids of users (of unequal activity) and items (Zipf), a rating, a
time, rows in no order; with --giant, N rows more of one user. Timed from Ray ready to the manifest
published: read, check, group, write, verify. Memory is the sum over all processes of Ray and of
this one of their proportional set size, shared memory in it once, sampled twice a second; what is
on its way on disk is counted apart. Peer: polars scans, sorts by (user, time), groups and writes
the lists, one thread. Writes a result file, without --json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import polars as pl
import psutil

from benchmarks.machine import write_result
from metarec_ray.data.settings import Columns, Data
from metarec_ray.data.store.manifest import load, verify
from metarec_ray.data.store.versions import BUILDING
from metarec_ray.engine.cluster.session import ray_session
from metarec_ray.engine.prepare.driver import prepare

FILES, ITEMS, YEARS_S, OBJECT_STORE = 10, 100_000, 94_608_000, 512 * 2**20
SAMPLE_S = 0.5
POLARS = """
import sys, time
import polars as pl
begin = time.perf_counter()
log = pl.scan_parquet(sys.argv[1] + "/*.parquet").collect()
lists = log.sort("user", "time").group_by("user", maintain_order=True).agg(pl.all())
lists.write_parquet(sys.argv[2])
print(time.perf_counter() - begin)
"""


def main() -> None:
    """Generate, prepare, compare, write."""
    parser = argparse.ArgumentParser(description="Measure `metarec prepare`.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--buckets", type=int, default=16)
    parser.add_argument("--giant", type=int, default=0, metavar="N")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("METAREC_SCRATCH")) as name:
        folder = Path(name)
        generate(folder / "log", rows=asked.rows, users=asked.users, giant=asked.giant)
        seconds, peak, scratch = prepared(folder, asked.buckets)
        store = load(folder / "store")
        verify(folder / "store", store)
        polars_s = peer(folder)
    rows = asked.rows + asked.giant // FILES * FILES
    row = {
        "rows": rows,
        "users": asked.users,
        "seconds": round(seconds, 2),
        "rows_per_s": round(rows / seconds),
        "polars_seconds": round(polars_s, 2),
        "peak_rss_mb": round(peak / 1e6),
        "scratch_mb": round(scratch / 1e6),
        "store_sha256": store.store_sha256,
    }
    if asked.json:
        print(json.dumps(row))
        return
    lines = [f"{asked.buckets} buckets.", "", "| what | measured |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in row.items()]
    name = f"prepare-{asked.rows // 1_000_000}m"
    sizes = f"--rows {asked.rows} --users {asked.users} --buckets {asked.buckets}"
    if asked.giant:
        name, sizes = f"{name}-giant", f"{sizes} --giant {asked.giant}"
    command = f"python -m benchmarks.bench_prepare {sizes}"
    write_result(name, "Preparing a log", command, "\n".join(lines))


def generate(folder: Path, *, rows: int, users: int, giant: int = 0) -> None:
    """Write a log of `rows` rows, and `giant` rows of one user more; a file at a time."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    share = rng.lognormal(sigma=1.0, size=users).cumsum()
    popular = (np.arange(1, ITEMS + 1) ** -0.8).cumsum()
    for number in range(FILES):
        count = rows // FILES + (number < rows % FILES)
        user = np.searchsorted(share, rng.random(count) * share[-1])
        user = np.append(user, np.full(giant // FILES, users))
        count = len(user)
        item = np.searchsorted(popular, rng.random(count) * popular[-1])
        pl.DataFrame(
            {
                "user": user.astype(np.int64),
                "item": item.astype(np.int64),
                "rating": rng.integers(1, 6, count).astype(np.float32),
                "time": rng.integers(0, YEARS_S, count),
            }
        ).write_parquet(folder / f"part-{number:02d}.parquet", row_group_size=500_000)


def prepared(folder: Path, buckets: int) -> tuple[float, int, int]:
    """Return seconds, and peak bytes of memory and of what was on its way on disk."""
    settings = Data(
        path=str(folder / "log"),
        feedback="explicit",
        columns=Columns(label="rating", time="time"),
        buckets=buckets,
    )
    with ray_session(object_store_bytes=OBJECT_STORE), _peaks(folder / "store") as peak:
        begin = time.perf_counter()
        made = prepare(settings, folder / "store", data_dir=None, progress=_say)
        verify(folder / "store", made)
        seconds = time.perf_counter() - begin
    return seconds, peak[0], peak[1]


def peer(folder: Path) -> float:
    """Return the seconds of the polars script."""
    found = subprocess.run(
        [sys.executable, "-c", POLARS, str(folder / "log"), str(folder / "lists.parquet")],
        env=os.environ | {"POLARS_MAX_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(found.stdout)


@contextmanager
def _peaks(store: Path) -> Iterator[list[int]]:
    """Sample the memory of this process and of all below it, and the scratch of the store."""
    peaks, stop = [0, 0], threading.Event()

    def sample() -> None:
        while not stop.wait(SAMPLE_S):
            peaks[0] = max(peaks[0], sum(_pss(process) for process in _family()))
            peaks[1] = max(peaks[1], _size(store / BUILDING))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        stop.set()
        thread.join()


def _size(folder: Path) -> int:
    total = 0
    with suppress(FileNotFoundError):  # a folder goes while it is looked through
        for path in folder.rglob("*"):
            with suppress(FileNotFoundError):
                total += path.stat().st_size
    return total


def _family() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _pss(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
