"""What adapting is worth on new entities: learners beside the rivals they have to beat.

    METAREC_DATA=DIR python -m benchmarks.bench_learning [NAME ...]

Fits the methods of `LOOKS` as `metarec bench` configures them, in this process, with one seed, and
judges them on the test entities of their protocol. Writes a result file a name; minutes each.
The tables with all methods and several seeds are `bench_tables.py`'s.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.machine import result_path, write_result
from metarec_ray.config.experiment import load, override
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.bench.lineup import lineup
from metarec_ray.evaluation.bench.protocols import RATINGS, Candidate, open_protocol
from metarec_ray.evaluation.table import ranking_text, rating_text
from metarec_ray.evaluation.table.rows import Header, Row, judge
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit

ROOT = Path(__file__).parent.parent


class Look(NamedTuple):
    """A configuration, a protocol, and the methods that are judged."""

    config: str
    protocol: str
    methods: tuple[str, ...]


LOOKS = {
    "item_kshot": Look(
        "ml-1m-item-kshot.yaml",
        "item_kshot",
        ("user_item_bias", "maml", "anil", "meta_sgd", "bayesian_head"),
    ),
    "melu": Look("ml-1m-melu.yaml", "melu", ("user_item_bias", "maml")),
    "tracking": Look(
        "ml-1m-melu.yaml",
        "melu",
        ("user_item_bias", "eb_ridge", "variational_bayes", "covariance_tracking"),
    ),
    "strict": Look(
        "ml-1m-strict.yaml",
        "strict",
        ("recency_popularity", "ease", "windowed_ridge", "maml", "bayesian_head"),
    ),
    "periods": Look(
        "amazon-cross-domain.yaml",
        "cross_domain",
        ("popularity", "prototype", "prototype_averaged", "prototype_periods"),
    ),
}


def main() -> int:
    """Judge every look that is asked for and write the file."""
    torch.set_num_threads(1)
    if "METAREC_DATA" not in os.environ:
        print("METAREC_DATA must name the folder of the data sets, it is not set", file=sys.stderr)
        return 2
    names = sys.argv[1:] or list(LOOKS)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            table, rows = judged(LOOKS[name], Path(folder) / "store")
        print(table, flush=True)
        title, command = (
            f"What adapting is worth: {name}",
            f"python -m benchmarks.bench_learning {name}",
        )
        write_result(f"learning-{name}", title, command, f"```\n{table}\n```")
        numbers = result_path(f"learning-{name}").with_suffix(".json")
        numbers.write_text(json.dumps({"rows": rows}, indent=1) + "\n", "utf-8")
    return 0


def judged(look: Look, folder: Path) -> tuple[str, list[Row]]:
    """Return the table of a look, and its rows; its store is made in `folder`."""
    data_dir = Path(os.environ["METAREC_DATA"])
    experiment = load(ROOT / "jobs" / "configs" / look.config, [])
    log = read_log(experiment.data, data_dir=data_dir)
    build_store(log, log.settings, folder)
    store = TaskStore.open(folder)
    feedback = store.manifest.feedback
    ratings = look.protocol in RATINGS
    entries = lineup(
        experiment, feedback, n_items=len(store.items.ids), positive_min=None, ratings=ratings
    )
    opened = open_protocol(look.protocol, experiment, store, seed=0, data_dir=data_dir)
    measured = []
    for name in look.methods:
        entry, started = entries[name], time.process_time()
        recommender = Recommender(fit(override(experiment, entry.overrides), store))
        measured += opened.measure(Candidate(name, entry.kind, 0, recommender))
        print(f"{name}: {time.process_time() - started:.0f} CPU s", file=sys.stderr, flush=True)
    header = Header(Path(look.config).stem, feedback, 0, look.protocol)
    rows = judge(measured, header, resamples=experiment.evaluate.resamples)
    render = rating_text.render if ratings else ranking_text.render
    against = (_against(row) for row in rows if row["p_vs_best_rival"] is not None)
    return "\n".join([render(rows), "", *against]), rows


def _against(row: Row) -> str:
    """Return one line: how a learner compares with the best rival."""
    condition = " ".join(str(row[name]) for name in ("scenario", "k") if name in row)
    found = f"p {row['p_vs_best_rival']:.2g} against {row['best_rival']}"
    corrected = row["p_corrected"]
    told = "" if corrected is None else f", corrected {corrected:.2g}"
    return f"{row['method']}, {condition}: {found}{told}"


if __name__ == "__main__":
    sys.exit(main())
