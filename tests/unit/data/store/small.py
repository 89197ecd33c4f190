"""A store whose parts can be counted by hand, shared by the tests of this folder."""

from pathlib import Path
from typing import Any

import polars as pl

from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore

# User u begins at u s; item i is first met at i s: user u meets items u - 1 and u at u s.
LOG = pl.DataFrame(
    [
        {"user": user, "item": item, "stars": float(1 + (user + item) % 5), "time": user}
        for user in range(1, 41)
        for item in (user - 1, user)
    ]
)
ITEMS = pl.DataFrame({"id": range(41), "kind": [f"kind {i // 20}" for i in range(41)]})
USERS = pl.DataFrame({"id": range(1, 41), "town": ["x", "y"] * 20})


def store(folder: Path, *, clock: bool = True, **more: Any) -> TaskStore:
    log = LOG.with_columns(heat=pl.col("stars"), shelf=pl.col("item"))
    for name, frame in (("log", log), ("items", ITEMS), ("users", USERS)):
        frame.write_parquet(folder / f"{name}.parquet")
    kind = Feature(kind="categorical")
    fields = {
        "path": str(folder / "log.parquet"),
        "feedback": "explicit",
        "columns": Columns(label="stars", time="time" if clock else None),
        "items": SideTable(path="items.parquet", id="id", features={"kind": kind}),
        "users": SideTable(path="users.parquet", id="id", features={"town": kind}),
        "buckets": 2,
    }
    asked = Data.model_validate(fields | more)
    build_store(read_log(asked), asked, folder / "store")
    return TaskStore.open(folder / "store")
