"""What further labels of events are worth: RMSE of ratings of new users after k events.

    python -m benchmarks.bench_labels [--validation]

Makes logs whose truth is known: a user's taste p . q is rated with much noise; seconds of dwell are
a heavy-tailed function of the same taste with less noise and a taste of their own; a click is dwell
over a threshold. The controls withhold what the labels could tell. Settings were chosen with
`--validation`, which reads no test user. Minutes.
"""

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.machine import write_result
from metarec_ray.config.experiment import Experiment, parse
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.protocols.strict import Part, cut_tasks
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit

USERS, ITEMS, FACTORS, EVENTS = 2000, 100, 3, 24
RATING_NOISE, DWELL_NOISE, OWN = 1.0, 0.5, 0.5  # in standard deviations of the taste
MISSING = 0.2  # of the further labels
KS, QUERY, SEEDS = (0, 1, 3, 5, 10), 10, (0, 1, 2, 3, 4)
FURTHER = ("click", "dwell")
LOGS: Mapping[str, str] = {
    "informative": "dwell and click of the same taste, with less noise",
    "shuffled": "the same labels, given to random other events",
    "own taste": "dwell and click of a taste that has nothing to do with ratings",
    "of the rating": "dwell and click computed from the rating, which is known anyway",
}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "bayesian_head": {"name": "bayesian_head"},
    "multi_output_head": {"name": "multi_output_head"},
}


def main() -> int:
    """Measure every method on every log, print the rows and write the file."""
    torch.set_num_threads(1)
    part: Part = "valid" if "--validation" in sys.argv[1:] else "test"
    rows = []
    for log in LOGS:
        found = [measured(log, seed, part, METHODS) for seed in SEEDS]
        rows += [told(log, name, found) for name in METHODS]
        print("\n".join(rows[-len(METHODS) :]), flush=True)
    if part == "test":
        write_result("labels", "Further labels of events", "python -m benchmarks.bench_labels",
                     "\n".join([_ABOUT, "", *_head(), *rows]))  # fmt: skip
    return 0


def told(log: str, name: str, found: Sequence[Mapping[str, Sequence[float]]]) -> str:
    """Return a row: means over the seeds, and in how many of them it is below the first method."""
    first, own = (np.array([one[n] for one in found]) for n in ("bayesian_head", name))
    better = (own < first).sum(0)
    cells = [
        f"{value:.4f}" + ("" if name == "bayesian_head" else f" ({count})")
        for value, count in zip(own.mean(0), better, strict=True)
    ]
    return f"| {log} | `{name}` | {' | '.join(cells)} |"


def measured(
    log: str, seed: int, part: Part, methods: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[float]]:
    """Return the RMSE after each k of every method, on a log drawn from the seed."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        store = stored(drawn(log, seed), Path(folder))
        found = {
            name: rmse(experiment_of(algorithm, seed, store), store, part)
            for name, algorithm in methods.items()
        }
    print(f"{log} {seed}: {time.process_time() - started:.0f} CPU s", file=sys.stderr, flush=True)
    return found


def rmse(experiment: Experiment, store: TaskStore, part: Part) -> list[float]:
    """Return the root mean squared error of the next ratings of users of a part, after each k."""
    found = fit(experiment, store)
    predictor = Recommender(found).predictor
    tasks = cut_tasks(
        store.histories(("train",) if part == "valid" else ("train", "valid")),
        store.histories((part,), cut=False),
        experiment.evaluate,
        positive_min=None,
        part=part,
    )
    errors = [
        predictor.scores(tasks.supports(k), items=tasks.query) - tasks.query_label for k in KS
    ]
    return [error.square().mean().sqrt().item() for error in errors]


def experiment_of(algorithm: Mapping[str, Any], seed: int, store: TaskStore) -> Experiment:
    """Return the run of a learner on a store, with a linear head."""
    train = {"steps": 400, "lanes": 1, "lane_tasks": 32, "outer_lr": 0.01, "weight_decay": 1.0}
    tree = {
        "run": {"seed": seed},
        "data": store.manifest.settings,
        "model": {"dim": 8, "init_scale": 0.3},
        "algorithm": dict(algorithm),
        "train": train | {"num_workers": 1, "parts": "train"},
        "evaluate": {"ks": list(KS), "query_size": QUERY},
    }
    return parse(tree, "the benchmark")


def drawn(log: str, seed: int) -> pl.DataFrame:
    """Return a log: user, item, label, time, click, dwell."""
    rng = np.random.default_rng(seed)
    taste, others = (
        rng.standard_normal((USERS, FACTORS)) @ rng.standard_normal((FACTORS, ITEMS))
        for _ in range(2)
    )
    taste, others = taste / FACTORS**0.5, others / FACTORS**0.5
    user = np.repeat(np.arange(USERS), EVENTS)
    item = np.concatenate([rng.permutation(ITEMS)[:EVENTS] for _ in range(USERS)])
    noise = rng.standard_normal((2, len(user)))
    rating = taste[user, item] + RATING_NOISE * noise[0]
    told, own = taste[user, item], others[user, item]
    seen = {
        "own taste": own * (1 + OWN**2) ** 0.5 + DWELL_NOISE * noise[1],
        "of the rating": rating / (1 + RATING_NOISE**2) ** 0.5,
    }.get(log, told + OWN * own + DWELL_NOISE * noise[1])
    if log == "shuffled":
        seen = rng.permutation(seen)
    labels = {"click": (seen > 0.5).astype(float), "dwell": np.exp(2.0 * seen + 2.0)}
    gone = {name: rng.random(len(user)) < MISSING for name in labels}
    columns = {name: np.where(gone[name], np.nan, value) for name, value in labels.items()}
    first = 1_600_000_000 + 1000 * user
    return pl.DataFrame(
        {"user": user, "item": item, "label": rating, "time": first + np.arange(len(user)) % EVENTS}
        | columns
    )


def stored(log: pl.DataFrame, folder: Path) -> TaskStore:
    """Return the store of a log; the last fifth of its users are new, of the others a tenth."""
    log.write_parquet(folder / "log.parquet")
    data = Data.model_validate(
        {
            "path": str(folder / "log.parquet"),
            "feedback": "explicit",
            "columns": {"entity": "user", "item": "item", "label": "label", "time": "time"},
            "labels": {name: {} for name in FURTHER},
            "buckets": 1,
        }
    )
    build_store(read_log(data), data, folder / "store")
    return TaskStore.open(folder / "store")


_ABOUT = f"""{USERS} users, {ITEMS} items, {EVENTS} events each; a taste has variance 1, the noise
of a rating {RATING_NOISE:g} standard deviations of it, so that no method is below {RATING_NOISE:g};
{MISSING:.0%} of the further labels are missing. RMSE of the {QUERY} next ratings of users that
begin last, whom nothing learned from; means of {len(SEEDS)} logs and seeds, in brackets in how many
of them it is below `bayesian_head`.

{chr(10).join(f"- {name}: {text}" for name, text in LOGS.items())}"""


def _head() -> list[str]:
    names = " | ".join(f"k = {k}" for k in KS)
    return [f"| log | learner | {names} |", "|---" * (len(KS) + 2) + "|"]


if __name__ == "__main__":
    sys.exit(main())
