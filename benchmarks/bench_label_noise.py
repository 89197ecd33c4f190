"""What robust losses are worth where labels are wrong: errors on right labels of new users.

    python -m benchmarks.bench_label_noise [FEEDBACK ...]

The synthetic log, with a share of the labels of training users spoilt: ratings replaced by draws
that have nothing to do with the user, some of them far off; clicks turned round; chosen items
replaced by random ones. Validation users, the last to begin, keep theirs, and judge. Minutes each.
"""

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.machine import write_result
from metarec_ray.config.experiment import Experiment, parse
from metarec_ray.data.datasets.synthetic import generate
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data, Feedback, Synthetic
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit

SIZE = Synthetic(users=800, items=200, factors=8)
SHARES = (0.0, 0.25)  # of labels that are wrong
SEEDS = (0, 1)
FAR = 4.0  # standard deviations of a wrong rating, in those of right ones
Losses = tuple[Mapping[str, Any], ...]
LOSSES: Mapping[Feedback, Losses] = {
    "explicit": (
        {"name": "squared_error"},
        {"name": "huber", "delta": 1.0},
        {"name": "huber", "delta": 0.3},
    ),
    "binary": (
        {"name": "cross_entropy"},
        {"name": "cross_entropy", "smoothing": 0.2},
        {"name": "generalised_cross_entropy", "power": 0.3},
        {"name": "generalised_cross_entropy", "power": 0.7},
    ),
    "implicit": (
        {"name": "softmax"},
        {"name": "softmax", "smoothing": 0.1},
        {"name": "generalised_softmax", "power": 0.1},
        {"name": "generalised_softmax", "power": 0.3},
    ),
}


def main() -> int:
    """Measure what is asked for, print it and write a file each."""
    torch.set_num_threads(1)
    for feedback in LOSSES:
        if feedback in sys.argv[1:] or not sys.argv[1:]:
            text = table(feedback)
            command = f"python -m benchmarks.bench_label_noise {feedback}"
            write_result(f"label-noise-{feedback}", f"Wrong labels: {feedback}", command, text)
    return 0


def table(feedback: Feedback) -> str:
    """Return the rows of a kind of feedback: a loss, and its measure with each share of noise."""
    found: dict[str, list[str]] = {}
    for share in SHARES:
        for loss in LOSSES[feedback]:
            name = ", ".join(str(value) for value in loss.values())
            values = [measured(feedback, share, loss, seed) for seed in SEEDS]
            told = f"{np.mean(values):.4f} ({' '.join(f'{one:.4f}' for one in values)})"
            found.setdefault(name, []).append(told)
            print(feedback, share, name, told, flush=True)
    head = " | ".join(f"{share:.0%} wrong" for share in SHARES)
    rows = [f"| {name} | {' | '.join(values)} |" for name, values in found.items()]
    what = "NDCG@10, more is better" if feedback == "implicit" else "less is better"
    unit = {"explicit": "squared error", "binary": "log-loss", "implicit": "ranking"}[feedback]
    told = f"`maml` on {SIZE.users} users; {unit} on validation users, mean over k ({what})"
    return "\n".join(
        [f"{told}; in brackets the seeds.", "", f"| loss | {head} |", "|---|---|---|", *rows]
    )


def measured(feedback: Feedback, share: float, loss: Mapping[str, Any], seed: int) -> float:
    """Return the measure of a model trained with a share of wrong labels."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        store = spoilt(feedback, share, seed, Path(folder))
        experiment = experiment_of(loss, seed)
        predictor = Recommender(fit(experiment, store)).predictor
        judge = validation(experiment, store)
        value = judge.objective.of(judge.value(predictor))
    print(f"{time.process_time() - started:.0f} CPU s", file=sys.stderr, flush=True)
    return value


def experiment_of(loss: Mapping[str, Any], seed: int) -> Experiment:
    """Return the run: `maml` with a linear head."""
    train = {"steps": 120, "lanes": 1, "lane_tasks": 32, "outer_lr": 0.01, "weight_decay": 1.0}
    tree = {
        "run": {"seed": seed},
        "model": {"dim": 16},
        "algorithm": {"name": "maml", "inner_steps": 3},
        "train": train | {"num_workers": 1, "parts": "train", "loss": dict(loss)},
        "evaluate": {"ks": [1, 5, 10]},
    }
    return parse(tree, "the benchmark")


def spoilt(feedback: Feedback, share: float, seed: int, folder: Path) -> TaskStore:
    """Return a store whose training users have wrong labels; all others as they were."""
    log = generate(SIZE, feedback, seed).events
    clean = stored(log, feedback, folder / "clean")
    ids, train = clean.entity_ids(), clean.histories(("train",)).task_id
    wrong_users = [int(ids[row]) for row in train.tolist()]
    rng = np.random.default_rng(seed)
    events = log.height
    wrong = rng.random(events) < share
    wrong &= log["user"].is_in(wrong_users).to_numpy()
    label, item = log["label"].to_numpy().astype(float), log["item"].to_numpy()
    if feedback == "explicit":
        drawn = label.mean() + FAR * label.std() * rng.standard_normal(events)
        label = np.where(wrong, drawn, label)
    elif feedback == "binary":
        label = np.where(wrong, 1 - label, label)
    else:
        item = np.where(wrong, rng.integers(1, SIZE.items + 1, events), item)
    changed = log.with_columns(label=pl.Series(label), item=pl.Series(item))
    return stored(changed, feedback, folder / "spoilt")


def stored(log: pl.DataFrame, feedback: Feedback, folder: Path) -> TaskStore:
    """Return the store of a log whose last third of users validates."""
    folder.mkdir()
    log.write_parquet(folder / "log.parquet")
    columns = {"entity": "user", "item": "item", "time": "time"}
    if feedback != "implicit":
        columns["label"] = "label"
    asked = {
        "path": str(folder / "log.parquet"),
        "feedback": feedback,
        "columns": columns,
        "cutoff_quantile": 1.0,
        "valid_share": 0.3,
        "buckets": 1,
    }
    data = Data.model_validate(asked)
    build_store(read_log(data), data, folder / "store")
    return TaskStore.open(folder / "store")


if __name__ == "__main__":
    sys.exit(main())
