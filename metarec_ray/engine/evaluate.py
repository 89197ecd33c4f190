"""The table of a checkpoint or a configuration: floors, rivals, the learner.

Knows where stores and checkpoints of a run lie; `evaluation` knows how things are measured.
"""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.union import name_of
from metarec_ray.atomic import replace_text
from metarec_ray.config.experiment import (
    STORE,
    Experiment,
    beside,
    load,
    override,
    override_from,
    parse,
    require_log,
)
from metarec_ray.data.files.paths import is_remote
from metarec_ray.data.store.manifest import MANIFEST
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.evaluate_protocol import load_trained, protocol_rows
from metarec_ray.engine.prepare.ensure import ensure_store
from metarec_ray.errors import CheckpointError, ConfigError
from metarec_ray.evaluation.bench.protocols import PROTOCOLS
from metarec_ray.evaluation.optimum import optimum_method
from metarec_ray.evaluation.protocols.strict import StrictTasks, positive_threshold, strict_tasks
from metarec_ray.evaluation.rivals import fitted, standard_rivals
from metarec_ray.evaluation.scoring import Method, recommender_method
from metarec_ray.evaluation.table.rows import Header, Row
from metarec_ray.evaluation.table.rows import evaluate as judge
from metarec_ray.evaluation.table.text import render
from metarec_ray.storage.places import at_hand, bring


class Evaluation(NamedTuple):
    """Rows for machines and the same table as text."""

    rows: list[Row]
    text: str


def evaluate(
    target: str | Path,
    *,
    protocol: str,
    rivals_only: bool,
    overrides: Sequence[str],
    data_dir: Path | None,
    progress: Callable[[str], None],
) -> Evaluation:
    """Return the table of `target`: a checkpoint, a run's folder or its URI, or a configuration.

    Raises:
        ConfigError: an unknown protocol, or one that does not suit this log.
        DataError: files of the protocol are missing.
        CheckpointError: no checkpoint, an altered one, or one that was trained on another store.

    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    experiment, path, run = _find(at_hand(target).expanduser(), overrides, rivals_only=rivals_only)
    asked = _strict if protocol == "strict" else partial(protocol_rows, protocol=protocol)
    rows = asked(experiment, path, data_dir=data_dir, progress=progress)
    if path is not None and run is not None:
        lines = json.dumps({"rows": rows}, indent=1)
        replace_text(run / results_name(protocol), lines + "\n")
        bring(run / results_name(protocol))
    elif path is not None:
        progress(f"evaluate: {path} lies in no run, its table is not kept")
    return Evaluation(rows, render(rows))


def results_name(protocol: str) -> str:
    """Return the name of the file in a run's folder that keeps a protocol's rows."""
    which = "" if protocol == "strict" else f"-{protocol.replace('_', '-')}"
    return f"evaluation{which}.json"


def _strict(
    experiment: Experiment,
    path: Path | None,
    *,
    data_dir: Path | None,
    progress: Callable[[str], None],
) -> list[Row]:
    store = ensure_store(experiment, data_dir=data_dir, progress=progress)
    tasks = strict_tasks(store, experiment.evaluate)
    progress(
        f"evaluate: {len(tasks.entity):,} new entities, {int(tasks.trained.sum()):,} candidates"
    )
    trained = None if path is None else load_trained(path, store)
    methods = _rivals(experiment, store, tasks, trained and trained.method, progress)
    if trained is not None:
        methods.append(recommender_method(trained, tasks))
    # With clicks and ratings the protocol also rewards what a user was exposed to, which the
    # posterior of taste does not know: there it is no upper bound.
    if store.manifest.settings["path"] == "synthetic" and store.manifest.feedback == "implicit":
        methods.append(optimum_method(store, tasks))
    header = Header(Path(experiment.data.path).name, store.manifest.feedback, experiment.run.seed)
    progress(f"evaluate: judging {', '.join(method.name for method in methods)}")
    return judge(tasks, methods, experiment.evaluate, header=header, clock=time.perf_counter)


def _find(
    target: Path, overrides: Sequence[str], *, rivals_only: bool
) -> tuple[Experiment, Path | None, Path | None]:
    """Return the experiment of a target, its checkpoint, and the run that keeps its table.

    No checkpoint for rivals only, and no run for a checkpoint that lies in none.
    """
    if target.is_file():
        experiment = load(target, overrides)
        if is_remote(experiment.run.dir):  # judged as it lies there
            run = at_hand(experiment.run.dir)
            own_store = experiment.run.store or str(run / STORE)
            experiment = override(experiment, {"run.store": own_store})
        if experiment.run.store is None:
            require_log(experiment, target)
        path = None if rivals_only else _newest(experiment.directory)
        return experiment, path, experiment.directory
    path = target if (target / checkpoints.CONFIG).exists() else _newest(target)
    run = path.parent.parent if path.parent.name == checkpoints.CHECKPOINTS else None
    experiment = override_from(_as_it_lies(path, run), overrides)
    return experiment, None if rivals_only else path, run


def _as_it_lies(path: Path, run: Path | None) -> Experiment:
    """Return the experiment of a checkpoint with the places of the run it lies in.

    Its store is taken as it is: the checkpoint says which one it was trained on.
    """
    experiment = beside(parse(checkpoints.describe(path).config, str(path)), path)
    if run is not None:
        experiment = override(experiment, {"run.dir": str(run)})
    if (experiment.store / MANIFEST).exists():
        experiment = override(experiment, {"run.store": str(experiment.store)})
    return experiment


def _newest(run: Path) -> Path:
    folder = run / checkpoints.CHECKPOINTS
    found = checkpoints.latest_described(folder)
    if found is None:
        raise CheckpointError(
            f"a target must be a checkpoint, a trained run or its configuration, "
            f"there is no checkpoint in {folder}"
        )
    return found[0]


def _rivals(
    experiment: Experiment,
    store: TaskStore,
    tasks: StrictTasks,
    trained: str | None,
    progress: Callable[[str], None],
) -> list[Method]:
    """Return the standard methods, except the `trained` one, which has a row of its own."""
    feedback = store.manifest.feedback
    standard = standard_rivals(
        feedback,
        n_items=len(store.items.ids),
        positive_min=positive_threshold(experiment.evaluate, feedback),
    )
    learners = [learner for learner in standard if name_of(type(learner)) != trained]
    progress(f"evaluate: fitting {len(learners)} floors and rivals")
    return [recommender_method(fitted(learner, experiment, store), tasks) for learner in learners]
