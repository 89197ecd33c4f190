"""Whether learning from tasks at once, in buckets, is as good as one by one on the strict protocol.

    METAREC_DATA=DIR python benchmarks/bench_batching.py [--steps N]

Trains each learner three times on MovieLens-1M: tasks one by one (vmap, everything padded alike),
tasks at once, and tasks at once from another seed, which says how large noise is; then judges the
test users. Bar: at no k do the two ways differ more than noise allows, which is where the paired
bootstrap finds the difference, corrected over all rows, significant.
Writes benchmarks/results/batching_<hardware>_<date>.md; exit code 1 if the bar is missed.
"""

import argparse
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from machine import write_result
from torch import Tensor

from metarec_ray.config.experiment import Experiment, load, override
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.protocols.strict import StrictTasks, strict_tasks
from metarec_ray.evaluation.scoring import recommender_method
from metarec_ray.evaluation.table.ranking_measures import measure
from metarec_ray.evaluation.table.statistics import Sample, bootstrap, holm
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.meta_step import step
from metarec_ray.training.meta_step.objective import lane_objective
from metarec_ray.training.trainer import Trainer

ROOT = Path(__file__).parent.parent
CONFIG, RUN = ROOT / "jobs/configs/ml-1m-strict-head.yaml", ROOT / "runs/batching"
LEARNERS: dict[str, dict] = {
    "bayesian_head": {},
    "maml": {"algorithm": {"name": "maml"}, "model.hidden": [32]},
    "transformer": {"algorithm": {"name": "transformer"}},
}
RESAMPLES, LEVEL = 20_000, 0.05


def main() -> int:
    """Train, compare, write the result file; 1 if the two ways differ."""
    parser = argparse.ArgumentParser(
        description="Hold learning at once against learning one by one."
    )
    parser.add_argument("--steps", type=int, default=300)
    asked = parser.parse_args()
    command = [sys.executable, "-m", "metarec_ray", "prepare", str(CONFIG)]
    subprocess.run([*command, "--set", f"run.dir={RUN}"], stdout=subprocess.DEVNULL, check=True)
    store = TaskStore.open(RUN / "store")
    base = override(load(CONFIG), {"train.steps": asked.steps})
    tasks = strict_tasks(store, base.evaluate)
    rows = [row for name in LEARNERS for row in compared(name, base, store, tasks)]
    corrected = holm([p for *_, p in rows])
    lines = [
        "| learner | k | one by one | at once | difference | 95 % | another seed | p (Holm) |",
        "|---" * 8 + "|",
    ]
    for (name, k, one, at_once, (low, high), seed, _), p in zip(rows, corrected, strict=True):
        lines.append(
            f"| {name} | {k} | {one:.4f} | {at_once:.4f} | {at_once - one:+.4f} "
            f"| {low:+.4f} to {high:+.4f} | {seed - at_once:+.4f} | {p:.3f} |"
        )
    text = "\n".join(lines)
    command = f"python benchmarks/bench_batching.py --steps {asked.steps}"
    title = "Tasks at once and one by one, MovieLens-1M, strict, NDCG@10"
    write_result("batching", title, command, text)
    print(text)
    return int(min(corrected) < LEVEL)


Compared = tuple[str, int, float, float, tuple[float, float], float, float]


def compared(name: str, base: Experiment, store: TaskStore, tasks: StrictTasks) -> list[Compared]:
    """Return k, the levels of both ways, their difference's interval, another seed's level, p."""
    experiment = override(base, LEARNERS[name])
    one = trained(experiment, store, tasks, oracle=True)
    at_once = trained(experiment, store, tasks, oracle=False)
    other = trained(override(experiment, {"run.seed": 1}), store, tasks, oracle=False)
    found = []
    for k, level in one.items():
        samples = [Sample.of(one) for one in (level, at_once[k], at_once[k] - level)]
        resampled = bootstrap(samples, resamples=RESAMPLES, seed=0)
        means = [float(v.mean()) for v in (level, at_once[k], other[k])]
        interval, p = resampled.interval(2), resampled.p_value(0, 1)
        found.append((name, k, means[0], means[1], (interval.low, interval.high), means[2], p))
    return found


def trained(
    experiment: Experiment, store: TaskStore, tasks: StrictTasks, *, oracle: bool
) -> dict[int, Tensor]:
    """Return the NDCG@10 of each test user, by k, after training in one of the two ways."""
    step.lane_objective = partial(lane_objective, oracle=oracle)
    trainer = Trainer(experiment, store)
    started = time.process_time()
    for line in trainer.run(experiment.train.steps):
        way = "one by one" if oracle else "at once"
        print(f"{experiment.algorithm.name} {way} {line.step}/{line.steps}", file=sys.stderr)
    print(f"{time.process_time() - started:.0f} CPU s", file=sys.stderr)
    recommender = Recommender(trainer.checkpoint({}))
    measured = measure(
        tasks,
        recommender_method(recommender, tasks),
        ks=experiment.evaluate.ks,
        seed=0,
        ties=0,
        clock=time.perf_counter,
    )
    return {int(one.condition.k or 0): one.values["ndcg@10"] for one in measured}


if __name__ == "__main__":
    sys.exit(main())
