"""Cells of a bench as Ray tasks of one CPU each; a method is tuned before its cells.

Knows which cells are on disk and which failed; does not know what a cell computes.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from metarec_ray.atomic import replace_text
from metarec_ray.engine.cluster import machine
from metarec_ray.engine.cluster.parallel import where
from metarec_ray.engine.cluster.session import ray_session
from metarec_ray.engine.nodes import require_cpus, require_shared
from metarec_ray.evaluation.bench import run
from metarec_ray.evaluation.bench.cells import Cell, read_cell
from metarec_ray.evaluation.bench.run import Tuned

TUNED = "tuned"


class State(NamedTuple):
    """How far a bench has come; `event` says what just happened."""

    done: int
    failed: int
    total: int
    running: list[str]
    seconds_left: float | None
    event: str


def compute(cells: Sequence[Cell], watch: Callable[[State], None]) -> dict[str, str]:
    """Compute what is missing; return what went wrong with each cell that failed.

    Raises:
        MachineError: the cluster has no CPU for a cell, or a node does not see its folder or store.

    """
    missing = [cell for cell in cells if read_cell(cell) is None]
    done = len(cells) - len(missing)
    watch(State(done, 0, len(cells), [], None, f"{done} of {len(cells)} cells are on disk"))
    failed: dict[str, str] = {}
    if not missing:
        return failed
    with ray_session(num_cpus=machine.cpus()):
        require_cpus(1, 1, key="a cell of a bench")
        require_shared(missing[0].folder, missing[0].store)
        at = where(missing[0].folder)
        tuning: dict[str, Any] = {}
        waiting: dict[Any, Cell] = {}
        for cell in missing:
            if cell.tuning_key not in tuning:
                tuning[cell.tuning_key] = _tuned(cell, at)
            waiting[_run.options(**at).remote(cell, tuning[cell.tuning_key])] = cell
        started = time.monotonic()
        while waiting:
            (finished,), _ = ray.wait(list(waiting), num_returns=1)
            cell = waiting.pop(finished)
            event = f"{cell.entry.name} seed {cell.seed}"
            try:
                event += f": {ray.get(finished):.1f} CPU s"
                done += 1
            except RayError as error:
                reason = " ".join(str(getattr(error, "cause", error)).split())
                failed[f"{cell.entry.name} seed {cell.seed}"] = reason
                event += f" failed: {reason}"
            left = (time.monotonic() - started) / (len(missing) - len(waiting)) * len(waiting)
            names = [f"{one.entry.name} {one.seed}" for one in waiting.values()]
            running = names[: int(ray.cluster_resources().get("CPU", 1))]
            watch(State(done, len(failed), len(cells), running, left, event))
    return failed


def _tuned(cell: Cell, at: dict[str, Any]) -> Any:
    """Return what was tuned for a method, or the Ray reference to it; kept beside the cells."""
    if not cell.entry.grid:
        return Tuned({})
    return _tune.options(**at).remote(cell, cell.folder.parent / TUNED)


@ray.remote(num_cpus=1, max_retries=1)
def _tune(cell: Cell, folder: Path) -> Tuned:
    path = folder / f"{cell.entry.name}-{cell.tuning_key[:12]}.json"
    if path.is_file():
        return Tuned(**json.loads(path.read_text("utf-8")))
    found = run.tune(cell)
    replace_text(path, json.dumps(found._asdict(), indent=1) + "\n")
    return found


@ray.remote(num_cpus=1, max_retries=1)
def _run(cell: Cell, tuned: Tuned) -> float:
    before = time.process_time()
    run.run(cell, tuned)
    return time.process_time() - before
