"""The protocol `melu` on MovieLens-1M with the partition of its authors [Lee et al., 2019].

Knows the files of the partition, which we may not distribute, and the training rows they allow:

    regime B: all ratings of warm films by warm users except the query rows of warm tasks;
    regime A: the rows of the warm tasks, query rows included, as in the authors' method.

A task is a user in a scenario with 13 to 100 ratings there; the partition has five shuffles. Does
not know what predicts.
"""

from pathlib import Path
from typing import Literal

import polars as pl
import torch

from metarec_ray.data.log.selection import PARTITIONS
from metarec_ray.data.settings import Data, Rows
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.evaluation.protocols.frames import entity_features, histories_of
from metarec_ray.evaluation.protocols.ratings import (
    SCENARIOS,
    RatingTasks,
    cut,
    require_entity,
    with_history,
)

SEEDS = 5  # shuffles of the partition that are on file
FOLDER = next(iter(PARTITIONS))
WARM = Rows(path=f"{FOLDER}/scenario_by_row.parquet", column="scenario", value="warm")
Regime = Literal["A", "B"]


def tasks_file(seed: int) -> str:
    """Return the file of a shuffle, relative to the data folder."""
    return f"{FOLDER}/tasks_seed{seed % SEEDS}.parquet"


def training_rows(regime: Regime, seed: int) -> dict[str, Rows | None]:
    """Return `data.only` and `data.without` for the training rows of a regime and shuffle."""
    if regime == "A":
        warm = Rows(path=tasks_file(seed), column="scenario", value="warm")
        return {"only": warm, "without": None}
    return {"only": WARM, "without": Rows(path=tasks_file(seed), column="role", value="query")}


def by_partition(data: Data) -> bool:
    """Return whether the rows of a log are selected by files of this partition."""
    return data.only is not None and Path(data.only.path).parent.name == FOLDER


def for_seed(data: Data, seed: int) -> Data:
    """Return the settings of a partition's store for another shuffle, in the same regime."""
    regime = "A" if data.without is None else "B"
    return data.model_copy(update=training_rows(regime, seed))


def require_regime(found: Data, seed: int) -> Regime:
    """Return the regime of a store of these settings; ConfigError unless it is A or B."""
    for regime in ("A", "B"):
        if {"only": found.only, "without": found.without} == training_rows(regime, seed):
            return regime
    allowed = " or ".join(
        " with ".join(
            f"data.{name} = {rows and rows.model_dump()}"
            for name, rows in training_rows(regime, seed).items()
        )
        for regime in ("A", "B")
    )
    raise ConfigError(
        f"the partition with run.seed mod {SEEDS} = {seed % SEEDS} judges what was trained with "
        f"{allowed}, got data.only = {found.only and found.only.model_dump()} with "
        f"data.without = {found.without and found.without.model_dump()}"
    )


def partition_tasks(
    folder: Path, seed: int, store: TaskStore, users: pl.DataFrame | None
) -> list[RatingTasks]:
    """Return the scenarios of one shuffle.

    Args:
        folder: the data folder.
        seed: of the shuffle, mod 5.
        store: its catalogue holds every film of the tasks.
        users: `id` and features in canonical columns; a user without a row has no features.

    Raises:
        ConfigError: the entities of the store are not users.
        DataError: the file of the shuffle is missing.

    """
    require_entity(store, "user")
    path = folder / tasks_file(seed)
    if not path.is_file():
        raise DataError(
            f"the melu protocol reads the authors' partition, which is not shipped: missing {path}"
        )
    rows = pl.read_parquet(path).with_columns(
        entity=pl.col("user_id").cast(pl.String),
        item=pl.col("movie_id").cast(pl.String),
        label=pl.col("rating").cast(pl.Float32),
    )
    found: list[RatingTasks] = []
    for scenario in SCENARIOS:
        ours = rows.filter(pl.col("scenario") == scenario).sort("user_id", "pos")
        found.append(_tasks(scenario, ours, store, users))
        if scenario == "item_cold":
            found.append(with_history(found[-1], store))
    return found


def _tasks(
    scenario: str, rows: pl.DataFrame, store: TaskStore, users: pl.DataFrame | None
) -> RatingTasks:
    histories, ids = histories_of(rows, store)
    roles = rows.group_by("entity", maintain_order=True).agg(
        support=(pl.col("role") == "support").sum(), query=(pl.col("role") == "query").sum()
    )
    return cut(
        scenario,
        ids,
        histories._replace(users=entity_features(store, users, ids)),
        support=torch.from_numpy(roles["support"].to_numpy().astype("int64")),
        query=torch.from_numpy(roles["query"].to_numpy().astype("int64")),
        now=store.context_space.missing(),
    )
