import os
from pathlib import Path

import polars as pl
import pytest
import torch

from metarec_ray.config.experiment import load
from metarec_ray.data.log import reading, sources
from metarec_ray.data.settings import Data, Rows
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.evaluation.protocols.partition_files import (
    by_partition,
    for_seed,
    partition_tasks,
    require_regime,
    training_rows,
)
from metarec_ray.evaluation.protocols.ratings import RatingTasks

CONFIG = Path(__file__).parents[4] / "jobs" / "configs" / "ml-1m-melu.yaml"
FILMS = [10, 20, 30, 40, 50]
COLD_FILMS = (60, 70, 80)
COLD_USERS = (2, 21)


def write_partition(folder: Path) -> None:
    """Users 1..21 rate all films at rows 100 u, 100 u + 1, ..; of a task the last is the query."""
    films = [*FILMS, *COLD_FILMS]
    events = [
        {"row": 100 * user + i, "user_id": user, "movie_id": film, "rating": 1 + (user + i) % 5}
        for user in range(1, 22)
        for i, film in enumerate(films)
    ]
    cold = pl.col("user_id").is_in(COLD_USERS).cast(pl.String) + pl.col("movie_id").is_in(
        COLD_FILMS
    ).cast(pl.String)
    names = {
        "falsefalse": "warm",
        "truefalse": "user_cold",
        "falsetrue": "item_cold",
        "truetrue": "both_cold",
    }
    ratings = pl.DataFrame(events).with_columns(scenario=cold.replace_strict(names))
    last = pl.col("movie_id").is_in([FILMS[-1], COLD_FILMS[-1]])
    tasks = ratings.with_columns(
        pos=(pl.col("row") % 100) % 5,
        role=pl.when(last).then(pl.lit("query")).otherwise(pl.lit("support")),
    )
    for name in ("ml-1m", "melu_protocol"):
        (folder / name).mkdir()
    ratings.select("row", "user_id", "movie_id", pl.col("rating").cast(pl.Int8)).with_columns(
        timestamp=pl.lit(None, pl.Int32)
    ).write_parquet(folder / "ml-1m/ratings.parquet")
    (folder / "ml-1m/movies.dat").write_text(
        "".join(f"{film}::Film {film} (1990)::Drama\n" for film in films)
    )
    (folder / "ml-1m/users.dat").write_text(
        "".join(f"{user}::{'FM'[user % 2]}::25::4::0\n" for user in range(1, 22))
    )
    ratings.select("row", "scenario").write_parquet(
        folder / "melu_protocol/scenario_by_row.parquet"
    )
    for seed in (0, 1):
        tasks.sample(fraction=1, shuffle=True, seed=seed).write_parquet(
            folder / f"melu_protocol/tasks_seed{seed}.parquet"
        )


def opened(folder: Path, regime: str = "B") -> tuple[TaskStore, dict[str, RatingTasks]]:
    write_partition(folder)
    asked = Data(path="ml-1m", feedback="explicit", cutoff_quantile=1.0, valid_share=0.3)
    asked = asked.model_copy(update=training_rows(regime, 0))  # type: ignore[arg-type]
    build_store(reading.read_log(asked, data_dir=folder), asked, folder / "store")
    store = TaskStore.open(folder / "store")
    users, _ = reading.side_tables(sources.find(asked, data_dir=folder))
    return store, {one.scenario: one for one in partition_tasks(folder, 0, store, users)}


def items(store: TaskStore, rows: torch.Tensor, mask: torch.Tensor) -> list[int]:
    return [int(store.items.ids[row]) for row in rows[mask]]


def test_tasks_are_those_of_the_file_in_its_order(tmp_path: Path) -> None:
    store, found = opened(tmp_path)
    assert list(found) == ["user_cold", "item_cold", "item_cold_history", "both_cold"]
    one = found["user_cold"]
    assert one.entity == ["2", "21"]
    assert items(store, one.support.item[1], one.support.mask[1]) == FILMS[:-1]
    assert items(store, one.query[1], one.mask[1]) == FILMS[-1:]
    assert one.support.label[1].tolist() == [1 + (21 + i) % 5 for i in range(4)]
    assert one.label[1].tolist() == [1 + (21 + 4) % 5]
    assert items(store, found["both_cold"].query[0], found["both_cold"].mask[0]) == [80]


def test_no_training_row_is_asked_about_in_regime_b(tmp_path: Path) -> None:
    store, found = opened(tmp_path)
    table = store.histories()
    # 19 warm users, 5 warm films without the one that each warm task asks about.
    assert len(table.item) == 19 * 4
    known = {int(store.items.ids[row]) for row in table.item.unique()}
    assert known == set(FILMS[:-1])
    assert len(found["item_cold"].entity) == 19


def test_regime_a_trains_on_the_rows_of_warm_tasks(tmp_path: Path) -> None:
    store, _ = opened(tmp_path, "A")
    assert len(store.histories().item) == 19 * 5
    assert require_regime(Data.model_validate(store.manifest.settings), 0) == "A"


def test_history_is_the_training_ratings_of_the_user(tmp_path: Path) -> None:
    store, found = opened(tmp_path)
    told = found["item_cold_history"]
    assert items(store, told.support.item[0], told.support.mask[0]) == [*FILMS[:-1], 60, 70]
    assert torch.equal(told.query, found["item_cold"].query)


def test_users_that_training_never_met_have_their_features(tmp_path: Path) -> None:
    store, found = opened(tmp_path)
    first = store.user_space.first_row["gender"]
    vocabulary = store.vocabularies["user"]["gender"]
    genders = [first + 1 + vocabulary.index(letter) for letter in ("F", "M")]  # of users 2, 21
    tokens = found["user_cold"].support.user.tokens
    assert [(tokens[i] == genders[i]).sum().item() for i in (0, 1)] == [1, 1]
    nobody = partition_tasks(tmp_path, 0, store, None)[0].support.user
    assert torch.equal(nobody.tokens[0], nobody.tokens[1])


def test_the_shipped_configuration_is_regime_b_of_the_first_shuffle() -> None:
    data = load(CONFIG).data
    assert by_partition(data)
    assert require_regime(data, 0) == "B"
    assert require_regime(for_seed(data, 3), 3) == "B"
    in_a = data.model_copy(update=training_rows("A", 1))
    assert require_regime(for_seed(in_a, 2), 2) == "A"


def test_a_store_that_trained_on_other_rows_is_refused() -> None:
    data = load(CONFIG).data
    with pytest.raises(ConfigError, match=r"run\.seed mod 5 = 1 judges .*tasks_seed1.*tasks_seed0"):
        require_regime(data, 6)
    everything = data.model_copy(update={"only": None, "without": None})
    assert not by_partition(everything)
    with pytest.raises(ConfigError, match=r"got data\.only = None with data\.without = None$"):
        require_regime(everything, 0)


def test_a_missing_shuffle_is_named(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    with pytest.raises(DataError, match=r"not shipped: missing \S*tasks_seed2\.parquet$"):
        partition_tasks(tmp_path, 7, store, None)


@pytest.mark.skipif("METAREC_DATA" not in os.environ, reason="needs METAREC_DATA")
def test_the_published_partition_has_its_tasks(tmp_path: Path) -> None:
    folder = Path(os.environ["METAREC_DATA"])
    if not (folder / "melu_protocol").is_dir():
        pytest.skip("needs melu_protocol in METAREC_DATA")
    # Any store will do that knows the films: a small one is soon built.
    few = Rows(path="melu_protocol/scenario_by_row.parquet", column="scenario", value="both_cold")
    asked = Data(path="ml-1m", feedback="explicit", cutoff_quantile=1.0, only=few)
    build_store(reading.read_log(asked, data_dir=folder), asked, tmp_path / "store")
    found = partition_tasks(folder, 0, TaskStore.open(tmp_path / "store"), None)
    assert {one.scenario: len(one.entity) for one in found} == {
        "user_cold": 668,
        "item_cold": 2863,
        "item_cold_history": 2863,
        "both_cold": 723,
    }
    assert all(one.mask.sum(1).eq(10).all() for one in found)
