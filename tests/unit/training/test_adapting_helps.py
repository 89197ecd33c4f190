"""What every learner is for: after some events of a new entity it knows better than before them."""

from typing import get_args

import numpy as np
import polars as pl
import pytest

from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.algorithms.union import Algorithm, name_of
from metarec_ray.config.experiment import override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.trainer import Trainer
from tests.unit.training.on_validation import validate
from tests.unit.training.rating_log import store_of

META_LEARNERS = [
    name_of(one) for one in get_args(get_args(Algorithm)[0]) if issubclass(one, MetaLearner)
]
USERS, ITEMS, EVENTS, TASTES = 300, 30, 16, 1
DROPOUT = ("attention_dropout", "embedding_dropout", "item_dropout")
OWN = {
    "transformer": {
        "model.dim": 16,
        "train.outer_lr": 0.02,
        "train.weight_decay": 0.0,
        "train.steps": 80,
        **{f"algorithm.{name}": 0.0 for name in DROPOUT},
    },
    "recurrent": {"train.steps": 60},
}
"""Learners that the common settings do not teach enough."""
SETTINGS = {
    "model": {"dim": 4},
    "train": {
        "num_workers": 1,
        "steps": 40,
        "lanes": 1,
        "lane_tasks": 24,
        "log_every": 1000,
        "outer_lr": 0.05,
        "weight_decay": 0.03,
        "parts": "train",
        "tasks": {"ks": [0, 5, 10], "window": 10, "query_size": 6},
    },
}


@pytest.fixture(scope="module", params=["nothing else", "names"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    """Ratings of users whose tastes only their ratings tell; some logs tell who they are, too."""
    folder, rng = tmp_path_factory.mktemp("tastes"), np.random.default_rng(0)
    taste, item = rng.standard_normal((USERS, TASTES)), rng.standard_normal((ITEMS, TASTES))
    user = np.repeat(np.arange(USERS), EVENTS)
    rated = np.concatenate([rng.choice(ITEMS, EVENTS, replace=False) for _ in range(USERS)])
    label = (taste[user] * item[rated]).sum(1) + 0.3 * rng.standard_normal(len(user))
    words = rng.integers(60, size=(USERS, 4)).astype(str)
    names = {"id": np.arange(USERS), "words": ["|".join(own) for own in words]}
    pl.DataFrame(names).write_parquet(folder / "users.parquet")
    if request.param == "nothing else":
        return store_of(folder, user, rated, label)
    features = {"words": {"kind": "multi_categorical", "separator": "|"}}
    users = {"path": str(folder / "users.parquet"), "id": "id", "features": features}
    return store_of(folder, user, rated, label, users=users)


@pytest.mark.parametrize("name", META_LEARNERS)
def test_adapting_to_a_new_entity_helps(store: TaskStore, name: str) -> None:
    common = parse(SETTINGS | {"algorithm": {"name": name}}, "test")
    experiment = override(common, OWN.get(name, {}))
    trainer = Trainer(experiment, store)
    for _ in trainer.run(experiment.train.steps):
        pass
    error = {}
    for k in (0, 5, 10):
        cut = experiment.train.tasks.model_copy(update={"ks": (k,)})
        asked = experiment.train.model_copy(update={"tasks": cut})
        trainer.experiment = experiment.model_copy(update={"train": asked})
        error[k] = validate(trainer)[1]
    assert error[5] < error[0]
    assert error[10] < error[0]
