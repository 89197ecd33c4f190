import os
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pytest
import torch

from metarec_ray.algorithms.rivals import Constant, UserItemBias
from metarec_ray.config import parse
from metarec_ray.data.logs import read_log
from metarec_ray.data.store import build_store
from metarec_ray.data.task_store import TaskStore
from metarec_ray.errors import DataError
from metarec_ray.evaluation.melu import (
    SCENARIOS,
    MeluSplit,
    Predictor,
    fitted_predictor,
    read_split,
)
from metarec_ray.evaluation.melu_learner import recommender_predictor
from metarec_ray.evaluation.melu_table import evaluate_melu, render
from metarec_ray.recommender import Recommender, SupportEvent
from metarec_ray.training.step import Alone
from metarec_ray.training.trainer import Trainer

FILMS = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130]


def write_partition(folder: Path, users: Iterable[int] = (1, 2, 3)) -> None:
    """User 3 has the cold tasks, the others are warm; each rates all films, 3 + 10 to a task."""
    events = [
        {"row": 100 * user + i, "user_id": user, "movie_id": film, "rating": 1 + (user + i) % 5}
        for user in users
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


def constant(name: str, kind: str, value: float) -> Predictor:
    return Predictor(name, kind, 0.0, lambda tasks: torch.full_like(tasks.query_label, value))


def test_a_learner_is_compared_with_the_rival_of_the_lowest_rmse(split: MeluSplit):
    # Labels 2 3 4 5 1 2 3 4 5 1 have the mean 3: of constants it is the best, and 1 the worst.
    predictors = [
        constant("worst", "rival", 1.0),
        constant("good", "rival", 3.5),
        constant("best", "learner", 3.0),
    ]
    rows = {row["method"]: row for row in evaluate_melu(split, predictors, seed=4)[:9:3]}
    assert [row["best_rival"] for row in rows.values()] == ["good"] * 3
    assert rows["good"]["p_vs_best_rival"] is None
    # One task: every resample is that task, so p is its least value, 2 / (2000 + 1); Holm over the
    # three scenarios triples it.
    assert rows["best"]["p_vs_best_rival"] == pytest.approx(2 / 2001)
    assert rows["best"]["p_corrected"] == pytest.approx(3 * 2 / 2001)
    assert rows["best"]["better"] is True
    assert rows["worst"]["better"] is False
    assert rows["good"]["ci95"] == pytest.approx([rows["good"]["rmse"]] * 2)


def test_the_table_has_a_block_a_scenario_and_marks_what_is_better(split: MeluSplit):
    predictors = [constant("good", "rival", 3.5), constant("best", "learner", 3.0)]
    lines = render(evaluate_melu(split, predictors, seed=4)).split("\n")
    assert lines[0] == "melu  ml-1m (explicit)  partition seed 4  10 query ratings a task"
    assert [line for line in lines if line.endswith("tasks")] == [
        f"{name}: 1 tasks" for name in SCENARIOS
    ]
    # (1 + 0 + 1 + 4 + 4) / 5 = 2 and (2.25 + .25 + .25 + 2.25 + 6.25) / 5 = 2.25.
    assert [line.split()[2] for line in lines if line.startswith("best")] == ["1.4142+"] * 3
    assert [line.split()[2] for line in lines if line.startswith("good")] == ["1.5000"] * 3
    assert len(lines) < 40
    assert max(map(len, lines)) <= 100


def films_model(folder: Path) -> Recommender:
    """Train two steps on the warm ratings of the partition in `folder`."""
    data = folder / "ml-1m"
    (data / "movies.dat").write_text(
        "".join(f"{film}::Film {film} (1990)::Drama\n" for film in [*FILMS, 140])
    )
    (data / "users.dat").write_text("".join(f"{user}::F::25::4::0\n" for user in range(1, 21)))
    ratings = pl.read_parquet(data / "ratings.parquet")
    ratings.with_columns(timestamp=pl.lit(None, pl.Int32)).write_parquet(data / "ratings.parquet")
    side = folder / "melu_protocol"
    experiment = parse(
        {
            "data": {
                "path": str(data),
                "feedback": "explicit",
                "buckets": 1,
                "cutoff_quantile": 0.7,
                "valid_share": 0.3,
                "only": {
                    "path": str(side / "scenario_by_row.parquet"),
                    "column": "scenario",
                    "value": "warm",
                },
            },
            "model": {"dim": 4},
            "train": {
                "steps": 2,
                "lanes": 1,
                "lane_tasks": 2,
                "num_workers": 1,
                "tasks": {"ks": [2], "window": 3, "query_size": 5},
            },
        },
        "here",
    )
    build_store(read_log(experiment.data), experiment.data, folder / "store")
    trainer = Trainer(experiment, TaskStore.open(folder / "store"))
    for _ in trainer.run(Alone(), 2):
        pass
    return Recommender(trainer.checkpoint({}))


def test_a_recommender_predicts_what_it_would_say_of_each_query_film_alone(tmp_path: Path):
    write_partition(tmp_path, range(1, 21))
    split = read_split(tmp_path, 4)
    recommender = films_model(tmp_path)
    users = pl.DataFrame({"id": [3], "gender": ["F"], "age": ["25"], "occupation": ["4"]})
    predictor = recommender_predictor(recommender, split, users, fit_seconds=1.5)
    tasks = split.tasks["user_cold"]
    found = predictor.predict(tasks)
    assert (predictor.name, predictor.kind, predictor.fit_seconds) == (
        "bayesian_head",
        "learner",
        1.5,
    )
    alone = recommender.rank(
        [SupportEvent(str(FILMS[i]), float(label)) for i, label in enumerate((4, 5, 1))],
        [str(film) for film in FILMS[3:]],
        user_fields={"gender": "F", "age": "25", "occupation": "4"},
    )
    by_film = {item.id: item.score for item in alone.items}
    expected = [by_film[str(film)] for film in FILMS[3:]]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-5)
    nobody = recommender_predictor(recommender, split, None, fit_seconds=0.0).predict(tasks)
    assert nobody.shape == found.shape
    assert not torch.equal(nobody, found)


@pytest.mark.skipif("METAREC_DATA" not in os.environ, reason="needs METAREC_DATA")
def test_the_published_partition_has_its_tasks_and_training_ratings():
    folder = Path(os.environ["METAREC_DATA"])
    if not (folder / "melu_protocol").is_dir():
        pytest.skip("needs melu_protocol in METAREC_DATA")
    split = read_split(folder, 0)
    assert {name: len(tasks.user) for name, tasks in split.tasks.items()} == {
        "user_cold": 668,
        "item_cold": 2863,
        "both_cold": 723,
    }
    assert len(split.training.item) == 613_918
    bias = fitted_predictor(UserItemBias(), split, clock=lambda: 0.0)
    row = evaluate_melu(split, [bias], seed=0)[0]
    # .932 +- .008 over five shuffles.
    assert row["rmse"] == pytest.approx(0.932, abs=0.016)
