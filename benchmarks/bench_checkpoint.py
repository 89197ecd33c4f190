"""What saving and loading a checkpoint takes: seconds, and memory beside its tensors.

    python benchmarks/bench_checkpoint.py

Embedding tables of 32 dimensions with two moments, as the outer optimizer has them, each size in
processes of its own. Writes benchmarks/results/checkpoint_<hardware>_<date>.md.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil
import torch
from machine import write_result

from metarec_ray.checkpoint import Checkpoint, StoredParameters, load, parameters_sha256, save

ROWS = (200_000, 1_000_000, 4_000_000)
DIM = 32
MEGA = 1e6
Task = Callable[[int, Path], tuple[float, float]]


def main() -> int:
    """Measure all sizes and write the result file."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in ROWS:
            path = Path(folder) / "checkpoint"
            size = 3 * rows * DIM * 4 / MEGA
            told = [alone(task, rows, path) for task in (saving, loading, hashing)]
            cells = " | ".join(f"{seconds:.1f} | {peak:,.0f}" for seconds, peak in told)
            lines.append(f"| {rows:,} | {size:,.0f} | {cells} |")
    head = (
        "| rows | MB of tensors | save: s | MB beside them | load: s | MB, tensors included | "
        "hash of the parameters: s | MB |"
    )
    text = "\n".join([head, "|" + "---:|" * 8, *lines])
    command = "python benchmarks/bench_checkpoint.py"
    write_result("checkpoint", "Checkpoints: seconds and memory", command, text)
    return 0


def alone(task: Task, rows: int, path: Path) -> tuple[float, float]:
    """Run a task in a process of its own; its seconds and the growth of its private peak, MB."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(task, rows, path).result()


def saving(rows: int, path: Path) -> tuple[float, float]:
    """Save a checkpoint of `rows`."""
    table = torch.randn(rows, DIM)
    moments = {"table.first": torch.rand(rows, DIM), "table.second": torch.rand(rows, DIM)}
    state = {"step": 1, "seed": 0, "store_sha256": ""}
    made = Checkpoint({"table": table}, moments, {}, {}, {}, state, b"")
    return _measured(lambda: save(made, path))


def loading(rows: int, path: Path) -> tuple[float, float]:
    """Load it, every byte verified."""
    del rows
    return _measured(lambda: load(path))


def hashing(rows: int, path: Path) -> tuple[float, float]:
    """Hash its parameters, as the driver of workers does, which holds none."""
    del rows
    return _measured(lambda: parameters_sha256(StoredParameters(path)))


def _measured(work: Callable[[], object]) -> tuple[float, float]:
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    kept = work()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    del kept
    return seconds, max(0.0, (peak - before) / MEGA)


if __name__ == "__main__":
    sys.exit(main())
