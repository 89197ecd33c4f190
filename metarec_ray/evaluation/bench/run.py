"""One cell of a bench: tune, fit, judge, write. Runs in any process.

Knows the protocols and how learners are fitted; does not know ray or other cells. Test entities are
read once, after all choices have been made on validation entities.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from metarec_ray.algorithms.base import ALONE
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.files.hashes import sha256_json
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import RunFailed
from metarec_ray.evaluation.bench.cells import Cell, write_cell
from metarec_ray.evaluation.bench.protocols import RATINGS, Candidate, open_protocol
from metarec_ray.evaluation.second_stage.fit import fit_experiment
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.recommender import Recommender

log = logging.getLogger(__name__)
TUNING_SHARE = 0.5  # of the CPU budget of a cell


class Tuned(NamedTuple):
    """What was chosen on validation entities.

    Attributes:
        overrides: the best candidate of the grid; {} without a grid.
        tried: candidates that were tried.
        refused: candidates among them whose scores were no numbers; they are never chosen.
        asked: candidates in the grid.
        quality: of the best on validation entities, mean over all k.
        cpu_seconds: of the tuning.

    """

    overrides: dict[str, Any]
    tried: int = 0
    refused: int = 0
    asked: int = 0
    quality: float | None = None
    cpu_seconds: float = 0.0


def tune(cell: Cell, *, cpu: Callable[[], float] = time.process_time) -> Tuned:
    """Return the best candidate of the cell's grid by `Validation.value`.

    Candidates are fitted on the part `train` and judged on `valid`, by rankings unless the protocol
    is one of ratings. They are tried in the order of the grid, and no more once half the CPU budget
    is spent.

    Raises:
        NotFinite: the scores of every candidate are NaN or infinite.

    """
    base, started = _experiment(cell, {"train.parts": "train"}), cpu()
    store = TaskStore.open(cell.store)
    best: Tuned | None = None
    tried, refused = 0, list[RunFailed]()
    for point in cell.entry.grid:
        if tried and cpu() - started > TUNING_SHARE * 60 * base.bench.cpu_minutes:
            break
        tried += 1
        try:
            quality = _quality(override(base, dict(point)), store, cell.protocol)
        except RunFailed as error:  # its scores, or its gradients, are not finite
            log.warning("%s is no candidate of %s: %s", dict(point), cell.entry.name, error)
            refused.append(error)
            continue
        if best is None or best.quality is None or quality > best.quality:
            best = Tuned(dict(point), quality=quality)
    if best is None and refused:
        raise refused[-1]
    if best is None:
        return Tuned({})
    return best._replace(
        tried=tried,
        refused=len(refused),
        asked=len(cell.entry.grid),
        cpu_seconds=round(cpu() - started, 2),
    )


def run(cell: Cell, tuned: Tuned, *, cpu: Callable[[], float] = time.process_time) -> None:
    """Fit and judge a cell and write its files."""
    started, clock = cpu(), time.perf_counter()
    experiment = _experiment(cell, {**tuned.overrides, "run.seed": cell.seed})
    store = TaskStore.open(cell.store)
    # Tasks and ties are those of the whole bench, whatever a method changes.
    judged = parse(dict(cell.experiment), "a cell")
    opened = open_protocol(cell.protocol, judged, store, seed=cell.seed, data_dir=cell.data_dir)
    opening = cpu() - started
    recommender = Recommender(_fit(experiment, store))
    measured = opened.measure(Candidate(cell.entry.name, cell.entry.kind, cell.seed, recommender))
    spent = cpu() - started - opening
    limit = 60 * experiment.bench.cpu_minutes
    facts = {
        "protocol": cell.protocol,
        "entry": cell.entry.name,
        "config_sha256": config_sha256(experiment),
        "overrides": cell.entry.overrides | tuned.overrides,
        "tuning": tuned._asdict(),
        "store_sha256": store.manifest.store_sha256,
        "source_fingerprint": store.manifest.source_fingerprint,
        "cpu_seconds": round(spent, 2),
        "wall_seconds": round(time.perf_counter() - clock, 2),
        "over_budget": spent > limit or tuned.cpu_seconds > limit,
    }
    write_cell(cell, measured, facts)


def config_sha256(experiment: Experiment) -> str:
    """Return the hash of an experiment without the section `run`: its folders and seed."""
    tree = experiment.model_dump(mode="json")
    return sha256_json({name: value for name, value in tree.items() if name != "run"})


def _quality(asked: Experiment, store: TaskStore, protocol: str) -> float:
    """Return the mean quality over k of a candidate, fitted anew, on validation entities."""
    judge = validation(asked, store, ranks=protocol not in RATINGS)
    return judge.value(Recommender(_fit(asked, store)).predictor)


def _experiment(cell: Cell, changes: dict[str, Any]) -> Experiment:
    base = parse(dict(cell.experiment), "a cell")
    return override(base, {**cell.entry.overrides, **changes})


def _fit(experiment: Experiment, store: TaskStore) -> Checkpoint:
    """Return what was fitted in this process alone: its CPU time is the cell's."""
    return fit_experiment(experiment, store, fitting=ALONE)
