"""A trainer that is small enough to step many times."""

from pathlib import Path

from metarec_ray.config.experiment import parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.trainer import Trainer

SMALL = {
    "model": {"dim": 3, "user_ids": True},
    "train": {
        "num_workers": 1, "steps": 4, "lanes": 2, "lane_tasks": 2, "reference_items": 4,
        "weight_decay": 0.0,
        "tasks": {"ks": [0, 2], "window": 2, "query_size": 2, "negatives": 3},
    },
}  # fmt: skip


def small_trainer(store: Path) -> Trainer:
    return Trainer(parse(SMALL, "test"), TaskStore.open(store))
