"""A log of ratings, each user's one after another, as a store whose last third validates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore


def store_of(
    folder: Path,
    user: np.ndarray,
    item: np.ndarray,
    label: np.ndarray,
    *,
    further: Mapping[str, np.ndarray] | None = None,
    **more: Any,
) -> TaskStore:
    """Return the store of ratings [N]; every user has as many.

    `further` are more columns of the log; `more` goes into `data`.
    """
    events = len(user) // (int(user.max()) + 1)
    time = 60 * (1000 * user + np.arange(len(user)) % events) + 1_600_000_000
    log = {"user": user, "item": item, "label": label, "time": time, **(further or {})}
    pl.DataFrame(log).write_parquet(folder / "log.parquet")
    asked = {
        "path": str(folder / "log.parquet"),
        "feedback": "explicit",
        "columns": {"entity": "user", "item": "item", "label": "label", "time": "time"},
        "cutoff_quantile": 1.0,
        "valid_share": 0.3,
        "buckets": 1,
    }
    data = Data.model_validate(asked | more)
    build_store(read_log(data), data, folder / "store")
    return TaskStore.open(folder / "store")
