import polars as pl
import pytest
import torch

from metarec_ray.algorithms.rivals.biases import UserItemBias
from metarec_ray.algorithms.rivals.counts import Constant
from metarec_ray.config.experiment import parse
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import NotFinite
from metarec_ray.evaluation.protocols.predicted_ratings import Labels, label_range, measure_tasks
from metarec_ray.evaluation.protocols.ratings import rule_tasks
from metarec_ray.evaluation.table.ranking_measures import Condition
from metarec_ray.inference.recommender import Recommender, SupportEvent
from metarec_ray.inference.supports import Supports
from metarec_ray.training.fit import fit

LOG = pl.DataFrame(
    [
        {"user": user, "item": item, "stars": float(1 + (user * item + user // 7) % 5)}
        for user in range(60)
        for item in range(user % 3, 50, 2)
    ]
)
USERS = pl.DataFrame({"id": range(60), "town": ["x", "y", "z"] * 20})
TOWN = {"kind": "categorical"}
TREE = {
    "data": {
        "feedback": "explicit",
        "columns": {"label": "stars"},
        "users": {
            "path": "users.parquet",
            "id": "id",
            "features": {"town": {"kind": "categorical"}},
        },
        "buckets": 1,
        "cold_items": 0.3,
    },
    "model": {"dim": 4},
    "train": {"steps": 2, "lanes": 1, "lane_tasks": 2, "num_workers": 1},
    "evaluate": {"force": True, "ratings": {"query_size": 6, "min_ratings": 8}},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    folder = tmp_path_factory.mktemp("rated")
    LOG.write_parquet(folder / "log.parquet")
    USERS.write_parquet(folder / "users.parquet")
    data = parse(TREE, "here").data.model_copy(update={"path": str(folder / "log.parquet")})
    build_store(read_log(data), data, folder / "store")
    return TaskStore.open(folder / "store")


def recommender(store: TaskStore, learner: object = None) -> Recommender:
    experiment = parse(TREE, "here")
    if learner is not None:
        experiment = experiment.model_copy(update={"algorithm": learner})
    return Recommender(fit(experiment, store))


def test_a_constant_has_the_error_of_the_mean_of_training(store: TaskStore) -> None:
    settings = parse(TREE, "here").evaluate
    tasks = rule_tasks(store, settings.ratings, seed=0, force=True)
    assert {one.scenario for one in tasks} >= {"user_cold", "item_cold", "item_cold_history"}
    found = measure_tasks(
        recommender(store, Constant()), tasks, labels=Labels("explicit", label_range(store), 4.0),
        ks=None, seed=0, ties=0, clock=lambda: 0.0,
    )  # fmt: skip
    mean = store.histories(("train", "valid")).label.mean()
    for one, values in zip(tasks, found, strict=True):
        assert values.condition == Condition(scenario=one.scenario)
        assert values.entity == one.entity
        expected = (one.label - mean).square().mean(1)
        torch.testing.assert_close(values.values["squared_error"], expected)
        assert values.values["gain"].abs().max() == 0


def test_every_k_is_a_condition_and_adaptation_gains(store: TaskStore) -> None:
    settings = parse(TREE, "here").evaluate
    tasks = rule_tasks(store, settings.ratings, seed=0, force=True)[:1]
    found = measure_tasks(
        recommender(store, UserItemBias()), tasks,
        labels=Labels("explicit", label_range(store), 4.0), ks=(0, 3), seed=0, ties=0,
        clock=lambda: 0.0,
    )  # fmt: skip
    assert [(one.method, one.condition) for one in found] == [
        ("user_item_bias", Condition(k=0)),
        ("user_item_bias", Condition(k=3)),
    ]
    before, after = (one.values["squared_error"] for one in found)
    torch.testing.assert_close(found[1].values["gain"], before - after)


def test_a_prediction_is_what_the_recommender_would_say_of_each_item_alone(
    store: TaskStore,
) -> None:
    settings = parse(TREE, "here").evaluate
    one = rule_tasks(store, settings.ratings, seed=0, force=True)[0]
    trained = recommender(store)
    predicted = trained.scores(one.supports(), items=one.query)[0]
    support, ids = one.support, store.items.ids
    events = [
        SupportEvent(ids[item], label)
        for item, label in zip(
            support.item[0][support.mask[0]].tolist(),
            support.label[0][support.mask[0]].tolist(),
            strict=True,
        )
    ]
    asked = [ids[row] for row in one.query[0].tolist()]
    user = store.user_fields(store.entity_ids().index(one.entity[0]))
    alone = {item.id: item.score for item in trained.rank(events, asked, user_fields=user).items}
    assert predicted.tolist() == pytest.approx([alone[item] for item in asked], abs=1e-5)


@pytest.mark.parametrize("broken", [0, 3])
def test_a_prediction_that_is_no_number_names_method_entity_and_k(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    tasks = rule_tasks(store, parse(TREE, "here").evaluate.ratings, seed=0, force=True)[:1]
    constant = recommender(store, Constant())

    def scores(supports: Supports, *, items: torch.Tensor) -> torch.Tensor:
        found = torch.ones(items.shape)
        if bool(supports.mask.any()) == (broken > 0):
            found[1, 0] = torch.inf
        return found

    monkeypatch.setattr(constant, "scores", scores)
    place = f"constant gives inf for entity {tasks[0].entity[1]} after k = {broken} events"
    with pytest.raises(NotFinite, match=f"scores must be finite, {place}"):
        measure_tasks(
            constant, tasks, labels=Labels("explicit", label_range(store), 4.0),
            ks=(3,), seed=0, ties=0, clock=lambda: 0.0,
        )  # fmt: skip
