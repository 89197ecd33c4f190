"""Stores that tests of benches read: one of clicks, one of ratings."""

from pathlib import Path

import pytest

from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data, Synthetic
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store, cache=synthetic_store.parent / "cache")


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    folder = tmp_path_factory.mktemp("ratings") / "store"
    settings = Data(
        buckets=1, feedback="explicit", synthetic=Synthetic(users=200, items=60, mean_events=20.0)
    )
    build_store(read_log(settings), settings, folder)
    return TaskStore.open(folder)
