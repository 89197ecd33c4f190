"""What a trial trains, on whom it is judged, and how folds become one number."""

import math
from pathlib import Path
from typing import Any

import pytest

from metarec_ray.checkpoint import save_step
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.tasks.folds import fold_of_entities
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.tune.judged import joined, judged, require_unseen, require_unseen_validation
from metarec_ray.engine.tune.trial import reported
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.training.fit import fit

MEMBERS = {"a": {"algorithm.name": "popularity"}, "b": {"algorithm.name": "item_knn"}}
EVALUATE = {"ks": [0, 2], "query_size": 2, "min_positives": 4}


def asked(**keys: Any) -> Experiment:
    base = parse({"evaluate": EVALUATE, "sweep": {"folds": 3}}, "test")
    return override(base, {name.replace("__", "."): value for name, value in keys.items()})


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


def test_without_folds_a_trial_is_judged_on_validation_entities(store: TaskStore) -> None:
    (alone,) = judged(asked(sweep__folds=None), store)
    assert (alone.experiment.train.parts, alone.experiment.train.without) == ("train", None)
    valid = set(store.histories(("valid",)).task_id.tolist())
    assert set(alone.judge.tasks.entity.tolist()) <= valid
    assert alone.judge.objective.metric == "valid_ndcg@10"


def test_each_entity_is_judged_once_by_a_fit_that_has_not_seen_it(store: TaskStore) -> None:
    found = judged(asked(), store)
    everyone = [entity for part in found for entity in part.judge.tasks.entity.tolist()]
    known = store.histories(("train", "valid"))
    assert len(set(everyone)) == len(everyone) > 0.8 * known.n_entities
    test = set(store.histories(("test",)).task_id.tolist())
    assert test.isdisjoint(everyone)
    dealt = fold_of_entities(store.manifest.tasks, 3)
    for number, part in enumerate(found):
        train = part.experiment.train
        assert train.without is not None
        assert (train.parts, train.without.fold) == ("train+valid", number)
        seen = store.without(train.without).histories(("train", "valid")).task_id.tolist()
        assert set(seen).isdisjoint(part.judge.tasks.entity.tolist())
        assert {int(dealt[entity]) for entity in part.judge.tasks.entity.tolist()} == {number}
        assert part.judge.objective.metric == "fold_ndcg@10"


def test_folds_share_the_number_of_entities_to_judge_by(store: TaskStore) -> None:
    found = judged(asked(evaluate__validation_entities=10), store)
    assert [len(part.judge.tasks.entity) for part in found] == [3, 3, 3]


def test_the_value_of_folds_is_their_mean_with_its_spread(store: TaskStore) -> None:
    found = judged(asked(algorithm__name="popularity", sweep__folds=2), store)
    reports = [reported(part.judge, fit(part.experiment, store)) for part in found]
    first, second = (report["fold_ndcg@10"] for report in reports)
    assert first != second
    report = joined(reports, "fold_ndcg@10", fits=2)
    assert report["folds"] == [first, second]
    assert report["fold_ndcg@10"] == pytest.approx((first + second) / 2)
    # Of two values the standard deviation is their distance by the root of two.
    assert report["spread"] == pytest.approx(abs(first - second) / math.sqrt(2))


def test_a_fold_without_a_value_leaves_the_trial_without_one_and_is_named() -> None:
    reports = [{"step": 5, "m": 0.5}, {"step": 3, "m": math.nan, "why": "scores are NaN"}]
    found = joined(reports, "m", fits=3)
    assert math.isnan(found["m"])
    assert found["why"] == "without fold 1 of 3: scores are NaN"
    assert joined(reports[:1], "m", fits=1) == reports[0]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"train__without": {"fold": 1, "folds": 4}}, "must be none, got fold 1 of 4"),
        ({"train__teacher": "runs/old"}, "which train.teacher has, got runs/old"),
    ],
)
def test_what_has_seen_the_folds_is_refused(
    store: TaskStore, keys: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        require_unseen(asked(**keys), store)


@pytest.mark.parametrize("key", ["init_from", "teacher"])
@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, True),
        ({"train__parts": "train"}, False),
        ({"train__parts": "train", "blend__members": MEMBERS}, True),
    ],
)
def test_what_has_seen_validation_is_refused_without_folds(
    store: TaskStore, tmp_path: Path, key: str, changes: dict[str, Any], refused: bool
) -> None:
    source = asked(sweep__folds=None, algorithm__name="popularity", **changes)
    plain = override(source, {"blend.members": {}})
    made = fit(plain, store)._replace(config=source.model_dump(mode="json"))
    path = save_step(made, tmp_path / "checkpoints")
    sweep = asked(sweep__folds=None, **{f"train__{key}": str(tmp_path)})
    if not refused:
        require_unseen_validation(sweep, store)
        return
    told = rf"which train.{key} has, got {path} of the same store: train that with train.parts=tr"
    with pytest.raises(ConfigError, match=told):
        require_unseen_validation(sweep, store)
    elsewhere = made._replace(state=made.state | {"store_sha256": "of another store"})
    save_step(elsewhere, tmp_path / "checkpoints")
    require_unseen_validation(sweep, store)


def test_folds_of_entities_need_entities_that_are_judged(store: TaskStore) -> None:
    with pytest.raises(DataError, match=r"an entity in each fold .* got none .*sweep.folds"):
        judged(asked(evaluate__min_positives=5000), store)
    changed = {"settings": store.manifest.settings | {"split": "last"}}
    last = store.without(None)
    last.manifest = store.manifest.model_copy(update=changed)
    with pytest.raises(ConfigError, match=r"got data.split=last \(sweep.folds\)"):
        require_unseen(asked(), last)
