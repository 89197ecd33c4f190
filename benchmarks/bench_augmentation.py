"""What task augmentation is worth, by the number of users to learn from: errors on new users.

    python -m benchmarks.bench_augmentation [NAME ...]

The synthetic log; ratings get a mean of each user's own on top. Users have words beside what the
model of the log knows them by: noise that tells who somebody is. Validation users, the last to
begin, judge; nothing is chosen by them, every setting is shown. `films` (METAREC_DATA) takes films
of MovieLens-1M out of training and judges by these. Minutes each.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from scipy.stats import t

from benchmarks.machine import write_result
from metarec_ray.config.experiment import Experiment, load, override, parse
from metarec_ray.data.datasets.synthetic import generate
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data, Synthetic
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit

NEW_USERS, ITEMS, WORDS, OF_A_USER = 400, 200, 200, 6
SEEDS = (0, 1, 2, 3, 4)
LEARNERS: Mapping[str, Mapping[str, Any]] = {
    "maml": {"name": "maml", "inner_steps": 3, "prior_events": 10.0},
    "meta_sgd": {"name": "meta_sgd", "inner_steps": 3, "prior_events": 10.0},
    "bayesian_head": {"name": "bayesian_head"},
}
ROOT = Path(__file__).parent.parent
MAML: dict[str, Any] = {
    "algorithm": {"name": "maml", "inner_lr": 0.4, "inner_steps": 3, "prior_events": 10.0},
    "model.user_dropout": 0.0,
    "train.steps": 300,
    "train.weight_decay": 1.0,
    "train.tasks.query_size": 40,
    "train.tasks.start_share": 0.1,
}
"""As the configuration has `maml`, with a quarter of the steps."""
SHIFTS = ({"label_shift": 0.5}, {"label_shift": 1.0})
Augmented = Mapping[str, float] | None


class Log(NamedTuple):
    """A log: users to train on, and the deviation of what each rates higher than others."""

    users: int
    own_mean: float


class Case(NamedTuple):
    """A table: logs as columns; learners with a `user_dropout` and augmentations as rows."""

    logs: tuple[Log, ...]
    rows: tuple[tuple[str, float], ...]
    augmentations: tuple[Augmented, ...]
    steps: int = 120  # of 32 tasks; the default of `train` is 400 of 128


CASES = {
    "ratings": Case(
        (Log(200, 1.0), Log(400, 1.0), Log(6400, 1.0), Log(200, 0.0)),
        (("maml", 0.0), ("maml", 0.3), ("bayesian_head", 0.3)),
        (None, *SHIFTS),
    ),
    "learned-rates": Case(
        (Log(200, 1.0), Log(400, 1.0), Log(6400, 1.0)),
        (("meta_sgd", 0.0), ("meta_sgd", 0.3)),
        (None, {"label_shift": 0.25}, *SHIFTS),
    ),
    "ratings-longer": Case(
        (Log(200, 1.0),),
        (("maml", 0.0), ("maml", 0.3), ("bayesian_head", 0.3)),
        (None, *SHIFTS),
        steps=600,
    ),
}


def main() -> int:
    """Measure what is asked for, print it and write a file each."""
    torch.set_num_threads(1)
    for name in sys.argv[1:] or [*CASES, "films"]:
        text = films() if name == "films" else synthetic(CASES[name])
        command = f"python -m benchmarks.bench_augmentation {name}"
        write_result(f"augmentation-{name}", f"Task augmentation: {name}", command, text)
    return 0


def synthetic(case: Case) -> str:
    """Return a table of the synthetic log."""
    found: dict[str, list[str]] = {}
    for log in case.logs:
        with tempfile.TemporaryDirectory() as folder:
            stores = [stored(log, n, Path(folder) / str(n)) for n in SEEDS]
            for learner, dropout in case.rows:
                value = partial(on_new_users, stores, learner, dropout, case.steps)
                label = f"{learner}, {dropout}"
                for row, told in compared(label, value, case.augmentations):
                    found.setdefault(row, []).append(told)
                    print(log, row, told, flush=True)
    return "\n".join(
        [
            "New users, mean over k = 0, 1, 5, 10; squared error, less is better; "
            f"{case.steps} steps. {_HOW} The number in a row is"
            " `model.user_dropout`; `own mean`: standard deviation of a user's own mean rating.",
            "",
            table(found, [f"{log.users:,} users, own mean {log.own_mean}" for log in case.logs]),
        ]
    )


_HOW = (
    f"Mean of {len(SEEDS)} seeds; augmented: the difference to the row without, with a 95 % "
    "interval (t, paired by seed)."
)


def on_new_users(
    stores: list[TaskStore],
    learner: str,
    dropout: float,
    steps: int,
    augmented: Augmented,
    seed: int,
) -> float:
    """Return what a learner reaches with a seed, on that seed's log."""
    asked = experiment_of(learner, dropout, augmented, seed, steps=steps)
    return judged(asked, stores[seed])


def table(found: Mapping[str, list[str]], columns: list[str]) -> str:
    """Return rows of Markdown."""
    head = f"| learner, augmentation | {' | '.join(columns)} |"
    rows = (f"| {row} | {' | '.join(told)} |" for row, told in found.items())
    return "\n".join([head, "|---|" + "---|" * len(columns), *rows])


def compared(
    label: str,
    value: Callable[[Augmented, int], float],
    augmentations: tuple[Augmented, ...],
) -> Iterator[tuple[str, str]]:
    """Yield what each augmentation, the first being none, reaches."""
    plain = np.array([])
    for augmentation in augmentations:
        started = time.process_time()
        found = np.array([value(augmentation, seed) for seed in SEEDS])
        print(f"{time.process_time() - started:.0f} CPU s", file=sys.stderr, flush=True)
        if augmentation is None:
            plain = found
            yield f"{label}, none", f"{found.mean():.4f}"
            continue
        name = ", ".join(f"{key} {number}" for key, number in augmentation.items())
        yield f"{label}, {name}", difference(found - plain)


def films() -> str:
    """Return the table of films that are held out of training."""
    experiment = load(ROOT / "jobs" / "configs" / "ml-1m-item-kshot.yaml", [])
    experiment = override(experiment, {"data.valid_share": 0.2, "train.parts": "train", **MAML})
    with tempfile.TemporaryDirectory() as folder:
        log = read_log(experiment.data, data_dir=Path(os.environ["METAREC_DATA"]))
        settings = log.settings.model_copy(update={"valid_share": 0.2})
        build_store(log, settings, Path(folder) / "store")
        store, found = TaskStore.open(Path(folder) / "store"), {}

        def value(augmented: Augmented, seed: int) -> float:
            asked = {"run.seed": seed, "train.augmentation": augmented and dict(augmented)}
            return judged(override(experiment, asked), store)

        for row, told in compared("maml", value, (None, *SHIFTS)):
            found[row] = [told]
            print(row, told, flush=True)
    count = store.manifest.parts
    return f"Films, {count}; mean over k; squared error. {_HOW}\n\n{table(found, ['films'])}"


def difference(of: np.ndarray) -> str:
    """Return the mean of paired differences with its 95 % interval."""
    half = t.ppf(0.975, len(of) - 1) * of.std(ddof=1) / len(of) ** 0.5
    return f"{of.mean():+.4f} [{of.mean() - half:+.4f}, {of.mean() + half:+.4f}]"


def judged(experiment: Experiment, store: TaskStore) -> float:
    """Return the measure on validation entities."""
    predictor = Recommender(fit(experiment, store)).predictor
    judge = validation(experiment, store)
    return judge.objective.of(judge.value(predictor))


def experiment_of(
    learner: str, dropout: float, augmented: Augmented, seed: int, *, steps: int
) -> Experiment:
    """Return the run of a learner."""
    tree = {
        "run": {"seed": seed},
        "model": {"dim": 16, "user_dropout": dropout},
        "algorithm": dict(LEARNERS[learner]),
        "train": {
            "steps": steps,
            "lanes": 1,
            "lane_tasks": 32,
            "num_workers": 1,
            "parts": "train",
            "augmentation": augmented and dict(augmented),
        },
        "evaluate": {"ks": [0, 1, 5, 10]},
    }
    return parse(tree, "the benchmark")


def stored(log: Log, seed: int, folder: Path) -> TaskStore:
    """Return the store of a log whose last users validate."""
    folder.mkdir()
    both, rng = log.users + NEW_USERS, np.random.default_rng(seed)
    made = generate(Synthetic(users=both, items=ITEMS, factors=8), "explicit", seed)
    own = log.own_mean * rng.standard_normal(both)
    label = made.events["label"].to_numpy() + own[made.events["user"].to_numpy() - 1]
    words = rng.integers(WORDS, size=(both, OF_A_USER)).astype(str)
    known = made.users.with_columns(words=pl.Series(["|".join(some) for some in words]))
    tags = made.items.with_columns(pl.col("tags").list.join("|"))
    made.events.with_columns(label=pl.Series(label)).write_parquet(folder / "log.parquet")
    known.write_parquet(folder / "users.parquet")
    tags.write_parquet(folder / "items.parquet")
    columns = {"entity": "user", "item": "item", "label": "label", "time": "time"}
    bag = {"kind": "multi_categorical", "separator": "|"}
    one = {"kind": "categorical"}
    asked = {
        "path": str(folder / "log.parquet"),
        "feedback": "explicit",
        "columns": columns,
        "cutoff_quantile": 1.0,
        "valid_share": NEW_USERS / both,
        "buckets": 1,
        "users": {
            "path": str(folder / "users.parquet"),
            "id": "id",
            "features": {"segment": one, "age": one, "words": bag},
        },
        "items": {
            "path": str(folder / "items.parquet"),
            "id": "id",
            "features": {"genre": one, "tags": bag},
        },
    }
    data = Data.model_validate(asked)
    build_store(read_log(data), data, folder / "store")
    return TaskStore.open(folder / "store")


if __name__ == "__main__":
    sys.exit(main())
