"""The protocol `melu`: ratings of cold users and cold films on MovieLens-1M [Lee et al., 2019].

Knows the authors' partition, read from files that may not be shipped; does not know what predicts.
A task is one user in one scenario with 13 to 100 ratings there: the last 10 of a shuffle are the
query, the rest the support. Everything here is regime B: all ratings of warm films by warm users
may train, but the query rows of warm tasks. How predictions are judged is `evaluation.melu_table`'s
business.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from metarec_ray.algorithms.base import Histories, StatisticalLearner
from metarec_ray.core.batch import Encoded
from metarec_ray.errors import DataError
from metarec_ray.evaluation.scoring import index_only, no_problem

Scenario = Literal["user_cold", "item_cold", "both_cold"]
SCENARIOS: tuple[Scenario, ...] = ("user_cold", "item_cold", "both_cold")
QUERY = 10
SEEDS = 5  # shuffles of the partition that are on file


class MeluTasks(NamedTuple):
    """The T tasks of a scenario, ascending by user id; items are positions in `MeluSplit.ids`."""

    user: Tensor  # int64 [T]: raw user ids
    item: Tensor  # int64 [T, N]: support, padded at the end
    label: Tensor  # float [T, N]
    mask: Tensor  # bool [T, N]
    query_item: Tensor  # int64 [T, QUERY]
    query_label: Tensor  # float [T, QUERY]


class MeluSplit(NamedTuple):
    """One seed of the partition."""

    ids: list[int]  # raw film ids, ascending
    training: Histories
    tasks: dict[Scenario, MeluTasks]


class Predictor(NamedTuple):
    """What stands in a table of ratings; `predict` gives [T, QUERY] on the scale of the labels."""

    name: str
    kind: str
    fit_seconds: float
    predict: Callable[[MeluTasks], Tensor]


def read_split(folder: Path, seed: int) -> MeluSplit:
    """Return one seed of the partition; DataError that names every file missing from `folder`."""
    names = ("ml-1m/ratings.parquet", "melu_protocol/scenario_by_row.parquet")
    files = [folder / name for name in (*names, f"melu_protocol/tasks_seed{seed}.parquet")]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise DataError(
            "the melu protocol reads the authors' partition, which is not shipped: "
            f"missing {', '.join(missing)}"
        )
    ratings, scenario, tasks = (pl.read_parquet(file) for file in files)
    ids = ratings["movie_id"].cast(pl.Int64).unique().sort().to_list()
    held_out = tasks.filter((pl.col("scenario") == "warm") & (pl.col("role") == "query"))
    warm = (
        ratings.join(scenario.filter(pl.col("scenario") == "warm"), on="row", how="semi")
        .join(held_out, on="row", how="anti")
        .sort("user_id", "row")
    )
    return MeluSplit(
        ids, _histories(warm, ids), {name: _tasks(tasks, name, ids) for name in SCENARIOS}
    )


def fitted_predictor(
    learner: StatisticalLearner, split: MeluSplit, *, clock: Callable[[], float]
) -> Predictor:
    """Fit a learner that reads no encoded vectors on the training ratings; `clock`: seconds."""
    start = clock()
    meta = learner.fit([split.training])
    problem = no_problem("explicit")

    def one(support: Encoded, query: Encoded) -> Tensor:
        return learner.score(problem, meta, learner.adapt(problem, meta, support), query)

    def predict(tasks: MeluTasks) -> Tensor:
        everything = torch.ones_like(tasks.query_item, dtype=torch.bool)
        query = index_only(tasks.query_item, torch.zeros_like(tasks.query_label), everything)
        return torch.func.vmap(one)(index_only(tasks.item, tasks.label, tasks.mask), query)

    name = str(learner.name)  # type: ignore[attr-defined]
    return Predictor(name, learner.kind, clock() - start, predict)


def _histories(ratings: pl.DataFrame, ids: list[int]) -> Histories:
    sizes = ratings.group_by("user_id", maintain_order=True).len()["len"].to_numpy()
    return Histories(
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)),
        item=_positions(ratings["movie_id"], ids),
        label=_labels(ratings["rating"]),
        time=torch.zeros(len(ratings), dtype=torch.int64),
        n_items=len(ids),
        cutoff=None,
    )


def _tasks(tasks: pl.DataFrame, scenario: Scenario, ids: list[int]) -> MeluTasks:
    rows = tasks.filter(pl.col("scenario") == scenario).sort("user_id", "pos")
    support, query = (rows.filter(pl.col("role") == role) for role in ("support", "query"))
    users = query["user_id"].unique(maintain_order=True).cast(pl.Int64).to_numpy()
    lengths = torch.from_numpy(
        support.group_by("user_id", maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    )
    mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    item, label = torch.zeros(mask.shape, dtype=torch.int64), torch.zeros(mask.shape)
    item[mask], label[mask] = _positions(support["movie_id"], ids), _labels(support["rating"])
    return MeluTasks(
        user=torch.from_numpy(users.copy()),
        item=item,
        label=label,
        mask=mask,
        query_item=_positions(query["movie_id"], ids).reshape(-1, QUERY),
        query_label=_labels(query["rating"]).reshape(-1, QUERY),
    )


def _positions(movies: pl.Series, ids: list[int]) -> Tensor:
    return torch.from_numpy(np.searchsorted(np.array(ids), movies.cast(pl.Int64).to_numpy()))


def _labels(ratings: pl.Series) -> Tensor:
    return torch.from_numpy(ratings.cast(pl.Float32).to_numpy().copy())
