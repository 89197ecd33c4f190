"""Labels of pure noise: whoever fits them in training was shown the answers."""

from pathlib import Path

import numpy as np
import polars as pl

from metarec_ray.config.experiment import parse
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.trainer import Trainer
from tests.unit.training.on_validation import validate

USERS, EVENTS, RATINGS_AN_ITEM = 600, 24, 2


def noise(folder: Path) -> TaskStore:
    rng = np.random.default_rng(0)
    items = USERS * EVENTS // RATINGS_AN_ITEM
    user = np.repeat(np.arange(USERS), EVENTS)
    log = {
        "user": user,
        "item": np.concatenate([rng.choice(items, EVENTS, replace=False) for _ in range(USERS)]),
        "label": 3 + rng.standard_normal(len(user)),
        "time": 60 * (1000 * user + np.tile(np.arange(EVENTS), USERS)) + 1_600_000_000,
    }
    pl.DataFrame(log).write_parquet(folder / "log.parquet")
    asked = {
        "path": str(folder / "log.parquet"),
        "feedback": "explicit",
        "columns": {"entity": "user", "item": "item", "label": "label", "time": "time"},
        "buckets": 1,
        "cutoff_quantile": 1.0,
        "valid_share": 0.3,
    }
    data = Data.model_validate(asked)
    build_store(read_log(data), data, folder / "store")
    return TaskStore.open(folder / "store")


def test_no_query_helps_to_predict_itself(tmp_path: Path) -> None:
    settings = {
        "model": {"dim": 4, "item_ids": False},
        "algorithm": {"name": "maml", "inner_lr": 0.01},
        "train": {
            "num_workers": 1,
            "steps": 150,
            "lanes": 1,
            "lane_tasks": 32,
            "log_every": 75,
            "outer_lr": 0.03,
            "weight_decay": 0.0,
            "parts": "train",
        },
    }
    trainer = Trainer(parse(settings, "test"), noise(tmp_path))
    *_, last = trainer.run(150)
    # The mean alone has an error of 1; labels in the offsets of their own items would give 0.87.
    assert abs(last.metric - validate(trainer)[1]) < 0.03
