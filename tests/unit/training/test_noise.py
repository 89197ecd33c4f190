"""Labels of pure noise: whoever fits them in training was shown the answers."""

from pathlib import Path

import numpy as np

from metarec_ray.config.experiment import parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.trainer import Trainer
from tests.unit.training.on_validation import validate
from tests.unit.training.rating_log import store_of

USERS, EVENTS, RATINGS_AN_ITEM = 600, 24, 2


def noise(folder: Path) -> TaskStore:
    rng = np.random.default_rng(0)
    items = USERS * EVENTS // RATINGS_AN_ITEM
    user = np.repeat(np.arange(USERS), EVENTS)
    item = np.concatenate([rng.choice(items, EVENTS, replace=False) for _ in range(USERS)])
    return store_of(folder, user, item, 3 + rng.standard_normal(len(user)))


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
