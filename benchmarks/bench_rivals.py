"""Reproduce the simple rivals of the strict protocol on a known data set.

    METAREC_DATA=DIR python benchmarks/bench_rivals.py --data ml-1m [--json] [--control]

Writes benchmarks/results/rivals_<hardware>_<date>.md. On ml-1m the rows of `KNOWN` must come out
within .002, or the exit code is 1.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from machine import heading, result_path

from metarec_ray.config.experiment import Experiment
from metarec_ray.config.judging import Evaluate
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.protocols.strict import strict_tasks
from metarec_ray.evaluation.rivals import fitted, standard_rivals
from metarec_ray.evaluation.scoring import recommender_method
from metarec_ray.evaluation.table.rows import Header, Row, evaluate
from metarec_ray.evaluation.table.text import render

TOLERANCE = 0.002
KNOWN = {
    ("ml-1m", "popularity", 0, "ndcg@10"): 0.0772,
    ("ml-1m", "popularity", 10, "ndcg@10"): 0.0772,
    ("ml-1m", "popularity", 10, "hr@10"): 0.427,
    ("ml-1m", "recency_popularity", 10, "ndcg@10"): 0.0825,
    ("ml-1m", "recency_popularity", 10, "hr@10"): 0.488,
    ("ml-1m", "item_knn", 3, "ndcg@10"): 0.0846,
    ("ml-1m", "item_knn", 5, "ndcg@10"): 0.0977,
    ("ml-1m", "ease", 3, "ndcg@10"): 0.0632,
    ("ml-1m", "ease", 10, "ndcg@10"): 0.1497,
    ("ml-1m", "ease", 10, "hr@10"): 0.715,
}


def main() -> int:
    """Measure, print, write the result file; 1 if a known row does not come out."""
    parser = argparse.ArgumentParser(description="Reproduce the simple rivals.")
    parser.add_argument(
        "--data", default="ml-1m", help="name of a data set with ratings, or a folder"
    )
    parser.add_argument("--control", action="store_true", help="mask the support only")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.data, Path(folder), control=arguments.control)
    wrong = [] if arguments.control else compare(rows)
    print(json.dumps({"rows": rows, "wrong": wrong}) if arguments.json else render(rows))
    for line in wrong:
        print(line, file=sys.stderr)
    if not arguments.control:
        write_result(rows, arguments.data, wrong)
    return 1 if wrong else 0


def measure(name: str, folder: Path, *, control: bool) -> list[Row]:
    """Build a store of the ratings >= 4 in `folder` and return the rivals' rows."""
    settings = Data(path=name, feedback="implicit", label_min=4)
    data_dir = Path(os.environ["METAREC_DATA"]) if "METAREC_DATA" in os.environ else None
    build_store(read_log(settings, data_dir=data_dir), settings, folder / "store")
    store = TaskStore.open(folder / "store")
    protocol = Evaluate(mask="support" if control else "window", resamples=10_000)
    tasks, experiment = strict_tasks(store, protocol), Experiment(data=settings)
    learners = standard_rivals("implicit", n_items=len(tasks.trained), positive_min=None)
    methods = [recommender_method(fitted(one, experiment, store), tasks) for one in learners]
    header = Header(Path(name).name, "implicit", 0)
    return evaluate(tasks, methods, protocol, header=header, clock=time.perf_counter)


def compare(rows: list[Row]) -> list[str]:
    """Return a line for each known value that was not reproduced."""
    wrong: list[str] = []
    for (dataset, method, k, name), expected in KNOWN.items():
        for row in rows:
            if (row["dataset"], row["method"], row["k"]) == (dataset, method, k):
                value = row[name]
                if not isinstance(value, float) or abs(value - expected) > TOLERANCE:
                    place = f"{method} {name} at k={k}, {dataset}"
                    wrong.append(f"must be {expected} +- {TOLERANCE}, got {value} ({place})")
    return wrong


def write_result(rows: list[Row], name: str, wrong: list[str]) -> None:
    """Write the table with hardware, versions, command and date."""
    known = sum(dataset == name for dataset, *_ in KNOWN)
    head = heading(
        f"Simple rivals, strict protocol, {name}",
        f"python benchmarks/bench_rivals.py --data {name}",
        ("torch", "polars"),
    )
    text = f"""{head}
```
{render(rows)}
```

Of {known} known values, {known - len(wrong)} are reproduced within {TOLERANCE}.
{chr(10).join(wrong)}"""
    result_path("rivals").write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
