"""A sweep of 16 trials on MovieLens-1M with ASHA: wall time, and how busy the cores are.

    METAREC_DATA=DIR python -m benchmarks.bench_sweep [--trials N]

One sweep with a process a trial, as Tune starts them unless told otherwise, then the same sweep as
`metarec tune` runs it, with processes that go on with the next trial, and with `sweep.vectorised`,
where all trials are one group and stopping is decided within it. Judged on validation users:
no test user is read. Ten minutes on two cores.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.machine import write_result

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads it when it is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

from metarec_ray.config.experiment import Experiment, load, override
from metarec_ray.engine.cluster.session import ray_session
from metarec_ray.engine.prepare.ensure import ensure_store
from metarec_ray.engine.tune import driver

CONFIG = Path(__file__).parent.parent / "jobs/configs/ml-1m-strict.yaml"
SPACE = {
    "train.outer_lr": {"low": 0.001, "high": 0.03},
    "algorithm.inner_lr": {"low": 0.5, "high": 8.0},
}

SWEEPS: tuple[tuple[str, bool, dict[str, Any]], ...] = (
    ("a process a trial", False, {}),
    ("processes that go on", True, {}),
    ("one process, together", True, {"sweep.vectorised": True}),
)


class Ran(NamedTuple):
    """A sweep that has ended.

    Attributes:
        wall_s: from its first line of progress to its last trial's.
        busy: share of all cores in use meanwhile, by whatever process.
        cpu_s: of the cores together.
        best: value of the best trial.

    """

    wall_s: float
    busy: float
    cpu_s: float
    best: float


def main() -> int:
    """Run both sweeps, print a row each and write the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=16)
    trials = parser.parse_args().trials
    rows = []
    with tempfile.TemporaryDirectory() as folder, ray_session():
        data = Path(os.environ["METAREC_DATA"])
        base = experiment(Path(folder), trials)
        ensure_store(base, data_dir=data, progress=say)
        for name, reused, keys in SWEEPS:
            place = {"run.dir": f"{folder}/{len(rows)}", "run.store": str(base.store)}
            with reusing(reused):
                found = ran(override(base, place | keys))
            rows.append(
                f"| {name} | {found.wall_s:.0f} | {found.busy:.0%} | {found.cpu_s:.0f} | "
                f"{found.best:.4f} |"
            )
            say(rows[-1])
    write_result(
        "sweep", "A sweep with ASHA", "python -m benchmarks.bench_sweep", text(rows, trials)
    )
    return 0


def experiment(folder: Path, trials: int) -> Experiment:
    """Return the sweep of `maml`'s rates, without second stage and blend."""
    films = load(CONFIG)
    maml: Any = films.bench.learners["maml"]
    tree = maml.model_dump(exclude_none=True) if hasattr(maml, "model_dump") else dict(maml)
    keys = {
        f"{section}.{key}": value
        for section in ("model", "train")
        for key, value in tree.get(section, {}).items()
        if key != "tasks"
    }
    sweep = {"trials": trials, "steps": 160, "rungs": 4, "space": SPACE}
    own = {"run.dir": str(folder / "run"), "blend": {}, "second_stage": None}
    return override(films, {"algorithm": tree["algorithm"], **keys, **own, "sweep": sweep})


def ran(own: Experiment) -> Ran:
    """Run a sweep and measure it."""
    before, started = psutil.cpu_times(), time.monotonic()
    ended: list[tuple[float, Any]] = []
    guard = threading.Lock()

    def told(line: str) -> None:
        say(line)
        with guard:
            if line.startswith("tune: trial"):
                ended.append((time.monotonic(), psutil.cpu_times()))

    result = driver.sweep(own, resume=False, data_dir=None, progress=told)
    last, after = ended[-1]
    cpu_s = used(after) - used(before)
    cores = psutil.cpu_count() or 1
    values = [trial["valid_ndcg@10"] for trial in result.trials]
    best = max(value for value in values if value is not None)
    return Ran(last - started, cpu_s / cores / (last - started), cpu_s, best)


def used(times: Any) -> float:
    """Return the CPU seconds that were not idle."""
    return sum(times) - times.idle - times.iowait - getattr(times, "guest", 0.0)


@contextmanager
def reusing(wanted: bool) -> Iterator[None]:
    """Let Tune start a process a trial, if none is to be reused, in a `with` block."""
    own = driver.tune.TuneConfig

    def config(**keys: Any) -> Any:
        return own(**{**keys, "reuse_actors": wanted})

    driver.tune.TuneConfig = config
    try:
        yield
    finally:
        driver.tune.TuneConfig = own


def text(rows: list[str], trials: int) -> str:
    """Return the table and what it is of."""
    return "\n".join(
        [
            f"{trials} trials of `maml` on MovieLens-1M (strict), up to 160 steps, ASHA with four "
            "rungs, judged on validation users; in one Ray session, one sweep after the other. "
            "Cores in use: by all processes of the machine.",
            "",
            "| trials run in | s | cores in use | CPU s | best NDCG@10 |",
            "|---|---:|---:|---:|---:|",
            *rows,
        ]
    )


def say(line: str) -> None:
    """Show a line of progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
