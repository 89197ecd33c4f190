"""What the quickstart picks for a log, beside the best learner of that log's own bench.

    [METAREC_DATA=DIR] python benchmarks/bench_tables_default.py [--data NAME] [--table NAME]

Runs `metarec quickstart` (or takes the finished run of --run), judges its checkpoint on the test
users and compares entity by entity with the cells that bench_tables.py left in runs/tables. Bars:
within 10 % of the best learner at every k, and not significantly below it (paired bootstrap).
Beside it the controls of the protocol that need no other fit: only the support is masked, and users
whose query begins later than their window ends.
Writes benchmarks/results/default-<data>_<hardware>_<date>.md; exit code 1 if a bar is missed.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import polars as pl
import torch
from machine import heading, result_path
from torch import Tensor

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.rivals.counts import Popularity
from metarec_ray.algorithms.rivals.neighbours import Ease, ItemKNN
from metarec_ray.config.experiment import parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.protocols.strict import strict_tasks
from metarec_ray.evaluation.rivals import fitted
from metarec_ray.evaluation.scoring import recommender_method
from metarec_ray.evaluation.table.ranking_measures import measure
from metarec_ray.evaluation.table.statistics import Sample, bootstrap
from metarec_ray.inference.recommender import Recommender

ROOT = Path(__file__).parent.parent
LEVEL, SHARE, RESAMPLES = 0.05, 0.9, 20_000
CONTROLS = {
    "headline": {},
    "only the support masked": {"mask": "support"},
    "clean boundary": {"boundary": "clean"},
}


class Compared(NamedTuple):
    """The default and the best learner after k events."""

    k: int
    default: float
    best: str
    best_level: float
    p: float

    @property
    def met(self) -> bool:
        """Whether the default is near the best, and not surely below it."""
        below = self.default < self.best_level and self.p < LEVEL
        return self.default >= SHARE * self.best_level and not below


def main() -> int:
    """Run, compare, write the result file; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description="Hold the default against the best of a bench.")
    parser.add_argument("--data", default="ml-1m", help="what quickstart takes")
    parser.add_argument("--table", default="ml-1m-strict", help="a table of bench_tables.py")
    parser.add_argument("--run", type=Path, help="a finished quickstart; by default one is run")
    asked = parser.parse_args()
    run = asked.run or ROOT / "runs" / f"default-{asked.data}"
    if asked.run is None:
        command = [sys.executable, "-m", "metarec_ray", "quickstart", "--data", asked.data]
        subprocess.run([*command, "--out", str(run)], stdout=subprocess.DEVNULL, check=True)
    cells = ROOT / "runs" / "tables" / asked.table / "bench" / "cells"
    found = compare(run, learners(cells))
    head = heading(
        f"The default of the quickstart, {asked.data}",
        f"python benchmarks/bench_tables_default.py --data {asked.data} --table {asked.table}",
    )
    lines = [
        f"| {one.k} | {one.default:.4f} | {one.best} | {one.best_level:.4f} | "
        f"{one.default / one.best_level:.0%} | {one.p:.3f} | {'met' if one.met else 'missed'} |"
        for one in found
    ]
    text = "\n".join(
        [
            "| k | default | best learner of the bench | its NDCG@10 | ratio | p | |",
            "|---|---|---|---|---|---|---|",
            *lines,
        ]
    )
    text += "\n\n" + "\n".join(controls(run))
    result_path(f"default-{asked.data}").write_text(f"{head}\n{text}\n", "utf-8")
    print(text)
    return 0 if all(one.met for one in found) else 1


def learners(cells: Path) -> dict[str, list[pl.DataFrame]]:
    """Return name -> entity, k, NDCG@10 of every learner of a bench, a table a seed."""
    found: dict[str, list[pl.DataFrame]] = {}
    for path in sorted(cells.glob("*.json")):
        facts = json.loads(path.read_text("utf-8"))
        kinds = {one["method"]: one["kind"] for one in facts["conditions"]}
        table = pl.read_parquet(
            path.with_suffix(".parquet"), columns=["method", "k", "entity", "ndcg@10"]
        )
        for (name,), rows in table.group_by("method"):
            if kinds[str(name)] == "learner":
                found.setdefault(str(name), []).append(rows)
    if not found:
        raise SystemExit(f"the bench must have cells of learners, {cells} holds none")
    return found


def compare(run: Path, bench: dict[str, list[pl.DataFrame]]) -> list[Compared]:
    """Return the default of a run beside the best learner at every k."""
    path, checkpoint = _newest(run)
    experiment = parse(checkpoint.config, str(path))
    tasks = strict_tasks(TaskStore.open(run / "store"), experiment.evaluate)
    method = recommender_method(Recommender(checkpoint), tasks)
    measured = measure(
        tasks, method, ks=experiment.evaluate.ks, seed=0, ties=0, clock=time.perf_counter
    )
    found = []
    for one in measured:
        k = one.condition.k
        assert k is not None
        beside = {name: _sample(tables, k, one.entity) for name, tables in bench.items()}
        best = max(beside, key=lambda name: beside[name].mean())
        mine, theirs = Sample.of(one.values["ndcg@10"]), beside[best]
        p = bootstrap([mine, theirs], resamples=RESAMPLES, seed=0).p_value(0, 1)
        found.append(Compared(k, mine.mean(), best, theirs.mean(), p))
    return found


def controls(run: Path) -> list[str]:
    """Return the lines of a table: the default and simple rivals under each control."""
    path, checkpoint = _newest(run)
    experiment, store = parse(checkpoint.config, str(path)), TaskStore.open(run / "store")
    methods = [Recommender(checkpoint)]
    methods += [fitted(one, experiment, store) for one in (Popularity(), ItemKNN(), Ease())]
    ks = experiment.evaluate.ks
    lines = [f"| control | method | n | {' | '.join(f'k = {k}' for k in ks)} |", "|---" * 8 + "|"]
    for control, change in CONTROLS.items():
        tasks = strict_tasks(store, experiment.evaluate.model_copy(update=change))
        for one in methods:
            found = measure(
                tasks,
                recommender_method(one, tasks),
                ks=ks,
                seed=0,
                ties=0,
                clock=time.perf_counter,
            )
            levels = " | ".join(f"{of_k.values['ndcg@10'].mean():.4f}" for of_k in found)
            lines.append(f"| {control} | {one.method} | {len(tasks.entity)} | {levels} |")
    return lines


def _newest(run: Path) -> tuple[Path, checkpoints.Checkpoint]:
    newest = checkpoints.latest(run / "checkpoints")
    if newest is None:
        raise SystemExit(f"a quickstart must have ended with a checkpoint, {run} holds none")
    return newest


def _sample(tables: list[pl.DataFrame], k: int, entity: list[str]) -> Sample:
    values = torch.stack([_aligned(table, k, entity) for table in tables])
    return Sample(values, torch.ones_like(values), tuple(range(len(tables))))


def _aligned(table: pl.DataFrame, k: int, entity: list[str]) -> Tensor:
    of = table.filter(pl.col("k") == k)
    values = pl.DataFrame({"entity": entity}).join(of, "entity", "left", maintain_order="left")
    if values["ndcg@10"].null_count() or len(of) != len(entity):
        raise SystemExit("the quickstart and the bench must judge the same users, they do not")
    return torch.from_numpy(values["ndcg@10"].to_numpy().copy()).float()


if __name__ == "__main__":
    sys.exit(main())
