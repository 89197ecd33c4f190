"""What trials of a sweep are compared by; without Tune, which only compares the reports."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.tune import space
from metarec_ray.engine.tune.judged import WHY
from metarec_ray.engine.tune.trial import reported
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.validation import Validation, validation
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.held_out import evaluate_starts
from metarec_ray.training.trainer import Trainer

EVALUATE = {"ks": [0, 2], "query_size": 2, "min_positives": 4}
TASKS = {"window": 4, "ks": [0, 2], "query_size": 2}


def asked(**keys: Any) -> Experiment:
    base = parse({"evaluate": EVALUATE, "model": {"dim": 8}, "train": {"tasks": TASKS}}, "test")
    quick = {"train.parts": "train", "train.lanes": 1, "train.num_workers": 1}
    return override(base, quick | {name.replace("__", "."): value for name, value in keys.items()})


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


@pytest.fixture(scope="module")
def judge(store: TaskStore) -> Validation:
    return validation(asked(), store)


def test_a_learner_that_is_good_on_samples_only_loses(store: TaskStore, judge: Validation) -> None:
    # Against one sampled item two query items are always among the first ten.
    sampled = Trainer(asked(train__tasks__negatives=1), store)
    whole = Trainer(asked(train__steps=40), store)
    for _ in whole.run(40):
        pass
    valid = store.histories(("valid",))
    known = valid.keep(whole.trained[valid.item])
    by_samples = [evaluate_starts(one, known, one.trained)[1] for one in (sampled, whole)]
    assert by_samples[0] > by_samples[1]
    report = [reported(judge, one.checkpoint({})) for one in (sampled, whole)]
    assert report[0]["valid_ndcg@10"] < report[1]["valid_ndcg@10"]
    assert [one["step"] for one in report] == [0, 40]
    of_k = judge.by_k(Recommender(whole.checkpoint({})).predictor)
    assert report[1]["valid_ndcg@10"] == pytest.approx((of_k[0] + of_k[2]) / 2)


def test_a_checkpoint_without_numbers_has_no_value_and_says_why(
    store: TaskStore, judge: Validation
) -> None:
    found = Trainer(asked(), store).checkpoint({})
    heads = {
        name: torch.full_like(value, torch.nan)
        for name, value in found.model.items()
        if name.startswith("head.")
    }
    ratings = judge._replace(ranks=False, feedback="explicit")
    report = reported(ratings, found._replace(model=found.model | heads))
    assert math.isnan(report["valid_squared_error"])
    assert "must be finite" in report[WHY]


def test_trials_of_learners_that_only_rank_are_all_judged_by_rankings() -> None:
    names = {"choices": ["popularity", "user_item_bias"]}
    experiment = asked(sweep__space={"algorithm.name": names})
    assert space.any_ranks_only(experiment)
    assert not space.any_ranks_only(asked())


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [("periods", 2, "train.periods 2"), ("average", {"shards": 4}, "train.average.shards 4")],
)
def test_a_sweep_of_several_models_at_once_is_refused(key: str, value: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=f"one model at once, got {told}"):
        space.require_searchable(asked(**{f"train__{key}": value}))


@pytest.mark.parametrize(
    "key",
    [
        "evaluate.query_size",
        "data.valid_share",
        "run.dir",
        "sweep.rungs",
        "train.steps",
        "train.periods",
        "train.average.shards",
        "train.num_workers",
    ],
)
def test_a_key_that_changes_the_measure_or_nothing_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"keys of algorithm, model, train .* got {key} "):
        space.require_searchable(asked(sweep__space={key: {"choices": [1, 2]}}))


def test_an_interval_of_a_key_that_takes_whole_numbers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.dim.*integer"):
        space.require_searchable(asked(sweep__space={"model.dim": {"low": 8, "high": 64}}))
