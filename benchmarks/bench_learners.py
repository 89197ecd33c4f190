"""Every learner of the union on the smoke experiment: same store, same steps, same table.

    python benchmarks/bench_learners.py [--steps 200]

Writes benchmarks/results/learners_<hardware>_<date>.md. One process, one thread; nothing is
tuned for a row.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from machine import heading, result_path

from metarec_ray.config import Experiment, load
from metarec_ray.data.logs import read_log
from metarec_ray.data.store import build_store
from metarec_ray.data.task_store import TaskStore
from metarec_ray.engine.evaluate import evaluate
from metarec_ray.evaluation.render import render
from metarec_ray.training.loop import train_loop
from metarec_ray.training.step import Alone
from metarec_ray.training.trainer import Trainer

SMOKE = Path(__file__).parent.parent / "jobs" / "configs" / "smoke.yaml"
LEARNERS = ("bayesian_head", "maml", "fomaml", "anil", "meta_sgd", "reptile")


def main() -> int:
    """Train each learner, judge all in one table, write the result file."""
    parser = argparse.ArgumentParser(description="Measure every learner.")
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        base = load(SMOKE)
        build_store(read_log(base.data), base.data, store)
        for name in LEARNERS:
            checkpoint = train(experiment(Path(folder) / name, store, name, steps))
            table = evaluate(
                checkpoint,
                protocol="strict",
                rivals_only=False,
                overrides=(),
                data_dir=None,
                progress=say,
            )
            rows += [row for row in table.rows if not rows or row["method"] == name]
    command = f"python benchmarks/bench_learners.py --steps {steps}"
    text = f"{heading('Learners, jobs/configs/smoke.yaml', command)}\n```\n{render(rows)}\n```\n"
    result_path("learners").write_text(text, "utf-8")
    print(render(rows))
    return 0


def experiment(folder: Path, store: Path, name: str, steps: int) -> Experiment:
    """Return the default experiment with another learner."""
    hidden = "[32]" if name == "anil" else "[]"  # without a hidden layer ANIL is MAML
    values = {"run.dir": folder, "run.store": store, "algorithm.name": name, "train.steps": steps}
    return load(SMOKE, [f"model.hidden={hidden}", *(f"{k}={v}" for k, v in values.items())])


def train(settings: Experiment) -> Path:
    """Train in this process; return the checkpoint."""
    trainer = Trainer(settings, TaskStore.open(settings.store))
    return train_loop(trainer, Alone(), settings.directory / "checkpoints", report=say)


def say(line: object) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
