"""What a vectorised sweep of 16 pairs of rates costs beside one run: writes one result file.

    METAREC_DATA=DIR python -m benchmarks.bench_vectorised [--steps N] [--learners a,b]

Stores are made as `metarec prepare` makes them, in a temporary folder. Of each learner and log, CPU
time of one thread, of a few steps after the first: one run alone, and 16 runs together that differ
in inner and outer rate. Both take turns, and the least of each is shown, as other work on the
machine only adds. Bar: less than five times one run.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from benchmarks.machine import write_result
from metarec_ray.config.experiment import Experiment, load, override
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.stacked.stack import Stack
from metarec_ray.training.trainer import Trainer

ROOT = Path(__file__).parent.parent
PAIRS, SIDE, BAR, TURNS = 16, 4, 5.0, 2


class Case(NamedTuple):
    """A learner on a log."""

    log: str
    learner: str
    experiment: Experiment


def main() -> int:
    """Measure every case and write the table; 1 if the bar is missed somewhere."""
    parser = argparse.ArgumentParser(description="Hold 16 runs trained together against one.")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--learners", default="maml,bayesian_head,fomaml,meta_sgd,anil")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "CPU milliseconds a step, all lanes and the update.",
        "",
        "| log | learner | one run | 16 runs alone | 16 runs together | together / one |",
        "|---" * 6 + "|",
    ]
    ratios = []
    with TemporaryDirectory() as folder:
        for case in cases(asked.learners.split(",")):
            one, together = measured(case, store_of(case, Path(folder)), asked.steps)
            ratios.append(together / one)
            lines.append(
                f"| {case.log} | {case.learner} | {one:.0f} | {PAIRS * one:.0f} | {together:.0f} "
                f"| {together / one:.1f} |"
            )
            print(lines[-1], file=sys.stderr)
    text = "\n".join(lines)
    command = f"python -m benchmarks.bench_vectorised --steps {asked.steps}"
    write_result("vectorised", "A vectorised sweep beside one run", command, text)
    print(text)
    return int(max(ratios) >= BAR)


def cases(learners: list[str]) -> list[Case]:
    """Return the learners on the quickstart's synthetic log and on strict MovieLens-1M."""
    synthetic = load(None)
    films = load(ROOT / "jobs/configs/ml-1m-strict-head.yaml")
    listed = load(ROOT / "jobs/configs/ml-1m-strict.yaml").bench.learners
    found = [
        Case("synthetic", name, override(synthetic, {"algorithm": {"name": name}}))
        for name in learners
    ]
    for name in learners:
        own = listed[name]
        sections = own.model_dump(exclude_none=True) if hasattr(own, "model_dump") else dict(own)
        keys = {
            f"{section}.{key}": value
            for section in ("model", "train")
            for key, value in sections.get(section, {}).items()
            if key != "tasks"
        }
        learner = sections.get("algorithm", {"name": name})
        found.append(Case("ml-1m", name, override(films, {"algorithm": learner, **keys})))
    return found


def store_of(case: Case, folder: Path) -> TaskStore:
    """Return the store of a log, made once."""
    path = folder / case.log
    if not path.exists():
        data = case.experiment.data
        build_store(read_log(data, data_dir=Path(os.environ["METAREC_DATA"])), data, path)
    return TaskStore.open(path)


def pairs(experiment: Experiment) -> list[Experiment]:
    """Return 16 pairs of rates around those of the experiment; without an inner rate, of decay."""
    inner = "algorithm.inner_lr" if hasattr(experiment.algorithm, "inner_lr") else None
    found = []
    for number in range(PAIRS):
        factors = 0.5 + 0.25 * (number % SIDE), 0.5 + 0.25 * (number // SIDE)
        keys = {"train.outer_lr": experiment.train.outer_lr * factors[0]}
        if inner:
            keys[inner] = getattr(experiment.algorithm, "inner_lr") * factors[1]  # noqa: B009
        else:
            keys["train.weight_decay"] = experiment.train.weight_decay * factors[1]
        found.append(override(experiment, keys))
    return found


def measured(case: Case, store: TaskStore, steps: int) -> tuple[float, float]:
    """Return CPU milliseconds a step of one run, and of all together."""
    asked = pairs(case.experiment)
    one, together = Trainer(asked[0], store), Stack(asked, store)
    advance: list[Callable[[int], object]] = [lambda n: list(one.run(n)), together.run]
    least = [float("inf"), float("inf")]
    reached = 2
    for run in advance:
        run(reached)
    for _ in range(TURNS):
        reached += steps
        for number, run in enumerate(advance):
            started = time.process_time()
            run(reached)
            spent = 1000 * (time.process_time() - started) / steps
            least[number] = min(least[number], spent)
    assert not together.failed, together.failed
    return least[0], least[1]


if __name__ == "__main__":
    sys.exit(main())
