"""A quick experiment and one cell of its bench, shared by the tests of this folder."""

from pathlib import Path
from typing import Any

from metarec_ray.config.experiment import Experiment, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.bench.cells import Cell, make_cell
from metarec_ray.evaluation.bench.lineup import Entry

EASE = Entry("ease", "rival", {"algorithm.name": "ease"}, 1)


def experiment(**sections: Any) -> Experiment:
    evaluate = {"ks": [0, 3], "query_size": 3, "min_positives": 6, "resamples": 200, "force": True}
    return parse({"evaluate": evaluate, **sections}, "the test")


def cell(
    store: TaskStore, folder: Path, asked: Experiment, entry: Entry = EASE, seed: int = 0
) -> Cell:
    return make_cell(
        "strict", entry, asked, store.manifest,
        seed=seed, store=store.path, folder=folder, data_dir=None,
    )  # fmt: skip
