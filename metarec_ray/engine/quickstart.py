"""The whole path once, on this machine: log, store, sweep, training, table, endpoint, report.

Knows the order of the verbs and the files they write; each stage runs the code of its verb. Choices
are made on validation users, never on test users.
"""

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metarec_ray.algorithms.closed_form.windowed_ridge import WindowedRidge
from metarec_ray.algorithms.rivals.neighbours import Ease
from metarec_ray.atomic import replace_text
from metarec_ray.config.experiment import Experiment, dump, load, override, relative
from metarec_ray.data.guess import guess, writing
from metarec_ray.data.guess.finding import plain
from metarec_ray.data.log.sources import find
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster.session import ray_session
from metarec_ray.engine.evaluate import Evaluation, evaluate
from metarec_ray.engine.prepare.ensure import ensure_store
from metarec_ray.engine.serve.example import Example, ask_example
from metarec_ray.engine.train.driver import TrainResult, train
from metarec_ray.engine.tune.driver import TRIALS, SweepResult, is_resumable, sweep
from metarec_ray.inference.recommender import Recommender
from metarec_ray.report.write import write_report

SUMMARY, CONFIG, TUNE = "summary.json", "quickstart.yaml", "tune"
PACKAGES = ("metarec_ray", "ray", "torch", "polars", "pyarrow", "numpy")
SPACE = {
    "train.outer_lr": {"low": 0.002, "high": 0.03},
    "train.weight_decay": {"low": 0.2, "high": 3.0},
    "model.prior_days": {"choices": [30.0, 120.0, None]},
}
CANDIDATES = 100
"""Of the second stage: on MovieLens-1M's validation users as good as 200, in half of the time."""
SMALL, SMALL_VALID_SHARE = 500, 0.25
"""Training and validation users below which a log is small, and the share that validates then."""
Progress = Callable[[str], None]


def quickstart(
    data: str, out: Path, *, data_dir: Path | None, progress: Progress
) -> dict[str, Any]:
    """Run every stage, write `summary.json` and `report.html` into `out`, return the summary.

    The same call again goes on from what is done. The key `text` is for people.
    """
    begun, stages = time.monotonic(), dict[str, float]()
    stage = _Stages(stages, progress)
    base = _base(data, out, data_dir, progress)
    with ray_session():
        with stage("prepare", "interaction log -> task store (Ray Data)"):
            store = ensure_store(base, data_dir=data_dir, progress=progress)
            if _is_small(store):
                base = override(base, {"data.valid_share": SMALL_VALID_SHARE})
                store = ensure_store(base, data_dir=data_dir, progress=progress)
        with stage("tune", "a small sweep on validation users (Ray Tune)"):
            found = _sweep(base, data_dir, progress)
        experiment = override(base, found.values | _default(store))
        replace_text(out / CONFIG, dump(relative(experiment, out)))
        with stage("train", "meta-training with two workers (Ray Train)"):
            trained = train(experiment, data_dir=data_dir, progress=progress)
    with stage("evaluate", "the table, on users that training has never seen"):
        table = evaluate(
            out,
            protocol="strict",
            rivals_only=False,
            overrides=(),
            data_dir=data_dir,
            progress=progress,
        )
    with stage("serve", "a live endpoint that re-ranks after each click (Ray Serve)"):
        example = ask_example(trained.checkpoint, experiment, store, progress=progress)
    summary = _summary(experiment, store, trained, table, example, stages)
    summary["seconds"] = round(time.monotonic() - begun, 1)
    replace_text(out / SUMMARY, json.dumps(summary, indent=1, allow_nan=False) + "\n")
    report = write_report(out)
    return summary | {"text": _text(summary, table.text, example, report)}


def _base(data: str, out: Path, data_dir: Path | None, progress: Progress) -> Experiment:
    tree = {"run.dir": str(out), "data.path": data, "sweep.space": SPACE, "sweep.trials": 6}
    # A small table says itself how little it can tell.
    tree |= {"model.prior_positions": [5, 25], "sweep.steps": 160, "evaluate.force": True}
    if guess.is_known(data):
        return override(load(None), tree)
    found = guess.settled(data, now=datetime.now(UTC))
    progress(f"{data}: {writing.line(found)}; `metarec init {data}` writes it down")
    base = override(load(None), tree | {"data": plain(found.data)})
    find(base.data, data_dir=data_dir)  # a wrong log fails here, before Ray starts
    return base


def _is_small(store: TaskStore) -> bool:
    parts = store.manifest.parts
    return parts["train"] + parts["valid"] < SMALL


def _default(store: TaskStore) -> dict[str, Any]:
    """Return the sections of the default for a log: which learners are joined, and how.

    No single learner is best on every log, and a blend, with weights for each k chosen on
    validation users, is seldom worse than its best member. Positives are put in order by a second
    stage, where that helps users it has not seen. With few users, members are few and simple. For
    binary feedback the head is alone.
    """
    feedback, n_items = store.manifest.feedback, len(store.items.ids)
    if feedback == "binary":
        return {}
    stage: dict[str, Any] = {}
    if feedback == "explicit":
        simple = {"bias": {"algorithm.name": "user_item_bias"}}
        others = simple if _is_small(store) else {"ridge": {"algorithm.name": "eb_ridge"}}
    elif _is_small(store):
        others = {"popularity": {"algorithm.name": "popularity"}}
        if n_items <= Ease().max_items:
            others["ease"] = {"algorithm.name": "ease"}
    else:
        if n_items <= WindowedRidge().max_items:
            others = {"ridge": {"algorithm.name": "windowed_ridge"}}
        else:
            others = {"factors": {"algorithm.name": "ials"}}
        stage = {"second_stage": {"candidates": CANDIDATES}}
    return {"blend": {"members": {"head": {}} | others}} | stage


def _sweep(base: Experiment, data_dir: Path | None, progress: Progress) -> SweepResult:
    folder = base.directory / TUNE
    own = override(base, {"run.dir": str(folder), "run.store": str(base.store)})
    replace_text(base.directory / f"{TUNE}.yaml", dump(relative(own, base.directory)))
    resume = is_resumable(folder)
    return sweep(own, resume=resume, data_dir=data_dir, progress=progress)


def _summary(
    experiment: Experiment,
    store: TaskStore,
    trained: TrainResult,
    table: Evaluation,
    example: Example,
    stages: dict[str, float],
) -> dict[str, Any]:
    manifest = store.manifest
    learner = Recommender.load(trained.checkpoint).method
    best = _by_k(table, learner)
    optimum = _by_k(table, "optimum")
    return {
        "dataset": Path(experiment.data.path).name,
        "feedback": manifest.feedback,
        "learner": learner,
        "seed": experiment.run.seed,
        "data": manifest.counts.model_dump()
        | {
            "tasks": manifest.tasks,
            "events": manifest.events,
            "items": manifest.items,
            "parts": manifest.parts,
            "cutoff": manifest.cutoff,
            "notes": manifest.notes,
        },
        "rows": table.rows,
        "optimum": optimum or None,
        "regret": {k: optimum[k] - best[k] for k in optimum} or None,
        "stages": stages,
        "sweep": json.loads((experiment.directory / TUNE / TRIALS).read_text("utf-8")),
        "example": example.as_json(),
        "checkpoint": os.path.relpath(trained.checkpoint, experiment.directory.resolve()),
        "parameters_sha256": trained.parameters_sha256,
        "commands": _commands(experiment, trained),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _by_k(table: Evaluation, method: str) -> dict[str, float]:
    return {str(r["k"]): float(str(r["ndcg@10"])) for r in table.rows if r["method"] == method}


def _commands(experiment: Experiment, trained: TrainResult) -> list[str]:
    out = experiment.directory
    return [
        f"metarec prepare {out / CONFIG}",
        f"metarec tune {out / TUNE}.yaml",
        f"metarec train {out / CONFIG}",
        f"metarec evaluate {out}",
        f"metarec serve {os.path.relpath(trained.checkpoint)}",
        "metarec rank http://127.0.0.1:8000 --support ID,ID -k 10",
    ]


def _text(summary: dict[str, Any], table: str, example: Example, report: Path) -> str:
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary["stages"].items())
    regret = summary["regret"]
    parts = [table, "", example.text(), ""]
    if regret:
        shown = ", ".join(f"k={k} {value:.4f}" for k, value in regret.items())
        parts += [f"regret to the optimum: {shown}", ""]
    return "\n".join([*parts, f"report: {report}", f"stages: {took}"])


class _Stages:
    """Announces each stage and measures its time."""

    def __init__(self, seconds: dict[str, float], progress: Progress):
        self.seconds, self.progress, self.number = seconds, progress, 0

    @contextmanager
    def __call__(self, name: str, what: str) -> Iterator[None]:
        self.number += 1
        self.progress(f"[{self.number}/5] {name}: {what}")
        begun = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begun, 1)
