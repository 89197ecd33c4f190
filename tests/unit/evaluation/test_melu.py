from pathlib import Path

import polars as pl
import pytest
import torch

from metarec_ray.algorithms.rivals import Constant, UserItemBias
from metarec_ray.errors import DataError
from metarec_ray.evaluation.melu import (
    SCENARIOS,
    MeluSplit,
    Predictor,
    evaluate_melu,
    fitted_predictor,
    read_split,
)

FILMS = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130]


def write_partition(folder: Path) -> None:
    """Users 1 and 2 are warm, 3 has the cold tasks; each rates all films, 3 + 10 to a task."""
    events = [
        {"row": 100 * user + i, "user_id": user, "movie_id": film, "rating": 1 + (user + i) % 5}
        for user in (1, 2, 3)
        for i, film in enumerate(FILMS)
    ]
    ratings = pl.DataFrame(events).with_columns(pl.col("rating").cast(pl.Int8))
    scenario = ratings.select(
        "row",
        scenario=pl.when(pl.col("user_id") == 3)
        .then(pl.lit("user_cold"))
        .otherwise(pl.lit("warm")),
    )
    position = pl.col("row") % 100
    task = ratings.with_columns(
        pos=position,
        role=pl.when(position < 3).then(pl.lit("support")).otherwise(pl.lit("query")),
    )
    warm = task.filter(pl.col("user_id") == 1).with_columns(scenario=pl.lit("warm"))
    cold = task.filter(pl.col("user_id") == 3)
    tasks = pl.concat([warm, *(cold.with_columns(scenario=pl.lit(name)) for name in SCENARIOS)])
    for name in ("ml-1m", "melu_protocol"):
        (folder / name).mkdir()
    ratings.write_parquet(folder / "ml-1m/ratings.parquet")
    scenario.write_parquet(folder / "melu_protocol/scenario_by_row.parquet")
    tasks.sample(fraction=1, shuffle=True, seed=0).write_parquet(
        folder / "melu_protocol/tasks_seed4.parquet"
    )


@pytest.fixture
def split(tmp_path: Path) -> MeluSplit:
    write_partition(tmp_path)
    return read_split(tmp_path, 4)


def test_training_is_the_warm_ratings_without_the_query_rows_of_warm_tasks(split: MeluSplit):
    assert split.ids == FILMS
    assert split.training.offsets.tolist() == [0, 3, 3 + 13]
    assert split.training.item.tolist() == [0, 1, 2, *range(13)]
    assert split.training.label[:3].tolist() == [1 + (1 + i) % 5 for i in range(3)]


def test_a_task_keeps_the_order_of_its_shuffle(split: MeluSplit):
    tasks = split.tasks["user_cold"]
    assert tasks.user.tolist() == [3]
    assert tasks.item.tolist() == [[0, 1, 2]]
    assert tasks.label.tolist() == [[4, 5, 1]]
    assert tasks.mask.all()
    assert tasks.query_item.tolist() == [list(range(3, 13))]


def test_the_perfect_prediction_has_no_error_and_an_ndcg_of_one(split: MeluSplit):
    perfect = Predictor("perfect", "optimum", 0.0, lambda tasks: tasks.query_label)
    for row in evaluate_melu(split, [perfect], seed=4):
        assert (row["rmse"], row["mae"]) == (0, 0)
        assert row["ndcg@1"] == row["ndcg@3"] == row["ndcg@5"] == pytest.approx(1)


def test_errors_reproduce_arithmetic_and_predictions_are_clipped(split: MeluSplit):
    # Labels of positions 3..12 are 2 3 4 5 1 2 3 4 5 1; a prediction of 9 counts as 5.
    high = Predictor("high", "rival", 0.0, lambda tasks: torch.full_like(tasks.query_label, 9.0))
    row = evaluate_melu(split, [high], seed=4)[0]
    assert row["mae"] == pytest.approx((3 + 2 + 1 + 0 + 4) / 5)
    assert row["rmse"] == pytest.approx(((9 + 4 + 1 + 0 + 16) / 5) ** 0.5)


def test_learners_stand_in_the_table(split: MeluSplit):
    learners = [Constant(), UserItemBias()]
    predictors = [fitted_predictor(one, split, clock=lambda: 0.0) for one in learners]
    rows = evaluate_melu(split, predictors, seed=4)
    assert [(row["method"], row["scenario"]) for row in rows] == [
        (name, scenario) for name in ("constant", "user_item_bias") for scenario in SCENARIOS
    ]
    mean = split.training.label.mean().item()
    truth = split.tasks["user_cold"].query_label
    assert rows[0]["mae"] == pytest.approx((truth - mean).abs().mean().item())


def test_missing_files_are_named_in_one_sentence(tmp_path: Path):
    write_partition(tmp_path)
    with pytest.raises(DataError, match=r"not shipped: missing \S*tasks_seed7\.parquet$"):
        read_split(tmp_path, 7)
    with pytest.raises(
        DataError, match=r"missing \S*ratings\.parquet, \S*scenario_by_row\.parquet"
    ):
        read_split(tmp_path / "elsewhere", 4)
