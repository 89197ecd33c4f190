"""What training period by period keeps, beside training at once: writes one result file.

    METAREC_DATA=DIR python -m benchmarks.bench_periods

The log and the settings of jobs/configs/amazon-cross-domain.yaml, trained on its training users and
judged on its validation users: the first tasks of their histories, each k for itself. No test user
is looked at. The same meta-batches for every row; the mean of two seeds.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import write_result
from metarec_ray.config.experiment import Experiment, load, override
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.held_out import evaluate_starts
from metarec_ray.training.incremental import PeriodRun
from metarec_ray.training.segments import train_segments
from metarec_ray.training.trainer import Trainer

CONFIG = Path(__file__).parent.parent / "jobs" / "configs" / "amazon-cross-domain.yaml"
SEEDS, KS = (0, 1), (0, 1, 3)
ROWS: dict[str, dict[str, Any]] = {
    "at once": {},
    "3 periods": {"train.periods": 3},
    "3 periods, anchor 0": {"train.periods": 3, "train.anchor": 0.0},
    "3 periods, anchor 2": {"train.periods": 3, "train.anchor": 2.0},
    "3 periods, replay 0.75": {"train.periods": 3, "train.replay": 0.75},
    "3 periods, replay 0.5": {"train.periods": 3, "train.replay": 0.5},
    "3 periods, replay 0, anchor 0": {
        "train.periods": 3,
        "train.replay": 0.0,
        "train.anchor": 0.0,
    },
}


def main() -> int:
    """Train every row with every seed and write the table; 2 without the log."""
    if "METAREC_DATA" not in os.environ:
        print("METAREC_DATA must be the folder of amazon-food-kitchen/", file=sys.stderr)
        return 2
    experiment = override(load(CONFIG), {"train.parts": "train", "train.log_every": 100})
    head = " | ".join(f"k = {k}" for k in KS)
    lines = [
        "NDCG@10 of validation users among the items and 200 sampled negatives a task; `forgotten` "
        "is of each period but the last, of held-out training users.",
        "",
        f"| training | {head} | forgotten | refused |",
        "|---" * (len(KS) + 3) + "|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        data = experiment.data
        log = read_log(data, data_dir=Path(os.environ["METAREC_DATA"]))
        build_store(log, data, Path(folder) / "store")
        store = TaskStore.open(Path(folder) / "store")
        for name, changes in ROWS.items():
            lines.append(f"| {name} | {_row(override(experiment, changes), store)} |")
            print(lines[-1], flush=True)
    command = "python -m benchmarks.bench_periods"
    write_result("periods", "Training period by period", command, "\n".join(lines))
    return 0


def _row(experiment: Experiment, store: TaskStore) -> str:
    """Return the cells of a row, means over the seeds."""
    found, forgotten, refused = [], [], []
    for seed in SEEDS:
        asked = override(experiment, {"run.seed": seed})
        plain = Trainer(override(asked, _AT_ONCE), store)
        if asked.train.periods > 1:
            run = PeriodRun(asked, store)
            train_segments(run.segments(), report=lambda line: None)
            plain.load(run.models[-1].checkpoint.model)
            summary = run.summary()
            forgotten.append(summary["forgetting"])
            refused.append(str(sum(summary["refused"])))
        else:
            for _ in plain.run(asked.train.steps):
                pass
        found.append([_judged(plain, k) for k in KS])
    cells = [f"{value:.4f}" for value in _means(found)]
    lost = " / ".join(f"{value:.4f}" for value in _means(forgotten))
    return " | ".join([*cells, lost, " and ".join(refused)])


_AT_ONCE = {"train.periods": 1, "train.replay": 1.0, "train.anchor": 1.0}


def _judged(trainer: Trainer, k: int) -> float:
    """Return the metric of validation users at one k."""
    whole = trainer.experiment
    trainer.experiment = override(whole, {"train.tasks.ks": [k]})
    valid = trainer.store.histories(("valid",))
    valid = valid.keep(trainer.trained[valid.item])
    metric = evaluate_starts(trainer, valid, trainer.trained)[1]
    trainer.experiment = whole
    return metric


def _means(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
