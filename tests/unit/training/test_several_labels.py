"""Several labels an event, from a log to a request: what a user's dwell tells of the ratings."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from metarec_ray import checkpoint as checkpoints
from metarec_ray.config.experiment import parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import RequestError
from metarec_ray.evaluation.protocols.strict import StrictTasks
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.recommender import Recommender, SupportEvent
from metarec_ray.training.fit import fit
from metarec_ray.training.meta_step.step import Alone
from metarec_ray.training.trainer import Trainer
from tests.unit.training.rating_log import store_of

USERS, ITEMS, EVENTS = 500, 40, 12
K = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    """Noisy ratings, and dwell that says the same taste with little noise, most of the time."""
    folder, rng = tmp_path_factory.mktemp("labels"), np.random.default_rng(0)
    taste, items = rng.standard_normal((USERS, 2)), rng.standard_normal((ITEMS, 2))
    user = np.repeat(np.arange(USERS), EVENTS)
    item = np.concatenate([rng.permutation(ITEMS)[:EVENTS] for _ in range(USERS)])
    told = (taste[user] * items[item]).sum(1)
    rating = told + 1.5 * rng.standard_normal(len(user))
    dwell = np.exp(told + 0.2 * rng.standard_normal(len(user)))
    dwell[rng.random(len(user)) < 0.1] = np.nan
    return store_of(folder, user, item, rating, further={"dwell": dwell}, labels={"dwell": {}})


@pytest.fixture(scope="module")
def learned(store: TaskStore) -> tuple[Recommender, StrictTasks]:
    tree = {
        "data": store.manifest.settings,
        "model": {"dim": 4, "init_scale": 0.3},
        "algorithm": {"name": "multi_output_head"},
        "train": {
            "num_workers": 1,
            "steps": 150,
            "lanes": 1,
            "lane_tasks": 32,
            "outer_lr": 0.02,
            "weight_decay": 0.1,
            "parts": "train",
            "tasks": {"ks": [0, 1, 3, 5], "window": 5, "query_size": 5},
        },
        "evaluate": {"ks": [0, K], "query_size": 5, "min_positives": 8, "force": True},
    }
    experiment = parse(tree, "the test")
    tasks = validation(experiment, store).tasks
    assert isinstance(tasks, StrictTasks)
    return Recommender(fit(experiment, store)), tasks


def test_new_users_are_known_better_by_the_dwell_of_their_events(
    learned: tuple[Recommender, StrictTasks],
) -> None:
    recommender, tasks = learned
    supports = tasks.supports(K)
    assert supports.labels.shape[-1] == 1
    withheld = supports._replace(labels=torch.full_like(supports.labels, math.nan))

    def error(asked) -> float:
        scores = recommender.scores(asked).gather(1, tasks.query)
        return (scores - tasks.query_label).square().mean().item()

    told, silent, nothing = error(supports), error(withheld), error(tasks.supports(0))
    assert silent < nothing
    assert nothing - told > 1.5 * (nothing - silent)


def test_a_request_with_labels_is_answered_as_a_table_is_made(
    store: TaskStore, learned: tuple[Recommender, StrictTasks]
) -> None:
    recommender, tasks = learned
    one = tasks.at(torch.tensor([0])).supports(K)
    whole = pl.read_parquet(Path(str(store.manifest.settings["path"])))
    user = int(tasks.entity[0])  # the rank of an id that is a number from 0 on
    first = whole.filter(pl.col("user") == user).sort("time").head(K)
    events = [
        SupportEvent(
            str(row["item"]),
            label=row["label"],
            time=row["time"] * 1_000_000,
            labels={} if math.isnan(row["dwell"]) else {"dwell": row["dwell"]},
        )
        for row in first.to_dicts()
    ]
    ranked = recommender.rank(events, k=ITEMS, exclude_seen=False)
    scores = recommender.scores(one)[0]
    for item in ranked.items:
        assert item.score == pytest.approx(float(scores[recommender.rows[item.id]]), abs=1e-5)
    silent = recommender.rank([event._replace(labels={}) for event in events], k=1)
    assert silent.items[0].score != ranked.items[0].score
    with pytest.raises(RequestError, match="dwel"):
        recommender.rank([events[0]._replace(labels={"dwel": 1.0})])


def test_a_warm_start_copies_labels_by_their_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    user, item = np.repeat(np.arange(20), 5), np.tile(np.arange(5), 20)
    stores = {}
    for names in (("dwell", "finish"), ("alpha", "dwell")):
        (tmp_path / names[0]).mkdir()
        stores[names[0]] = store_of(
            tmp_path / names[0],
            user,
            item,
            rng.standard_normal(100),
            further={name: rng.standard_normal(100) for name in names},
            labels={name: {} for name in names},
        )
    tree = {
        "model": {"dim": 3},
        "algorithm": {"name": "multi_output_head"},
        "train": {"num_workers": 1, "steps": 3, "lanes": 1, "lane_tasks": 4},
    }
    source = Trainer(parse(tree, "the source"), stores["dwell"])
    for _ in range(3):
        source.train_step(Alone())
    checkpoints.save(source.checkpoint({}), tmp_path / "source")
    train = tree["train"] | {"init_from": str(tmp_path / "source")}
    warm = Trainer(parse(tree | {"train": train}, "the target"), stores["alpha"])
    fresh = Trainer(parse(tree, "the target"), stores["alpha"])
    for name in ("loading", "precision", "noise", "mean", "of_rating"):
        own, given, before = (one.state.dense[f"labels.{name}"] for one in (warm, source, fresh))
        assert torch.equal(own[1], given[0])  # dwell
        assert torch.equal(own[0], before[0])
