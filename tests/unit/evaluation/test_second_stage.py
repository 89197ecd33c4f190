import sys
from pathlib import Path

import pytest
import torch

from metarec_ray.algorithms.base import Fitting
from metarec_ray.checkpoint import load, save
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.core.histories import Histories
from metarec_ray.core.ranking import top_k
from metarec_ray.data.tasks.folds import fold_of_entities
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError, MachineError
from metarec_ray.evaluation.second_stage import fit as fitting
from metarec_ray.evaluation.second_stage import shortlists
from metarec_ray.evaluation.second_stage.experiments import stage_experiments
from metarec_ray.evaluation.second_stage.fit import fit_experiment
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.recommender import Recommender, SupportEvent
from tests.unit.algorithms.second_stage.rankers.lists import installed

EVALUATE = {"ks": [0, 2], "query_size": 2, "min_positives": 4}
STAGE: dict[str, object] = {"candidates": 20, "folds": 2, "ranker": {"epochs": 4}}
TREES = {"name": "boosted_trees", "trees": 20, "min_items": 20}
MEMBERS = {
    "popular": {"algorithm.name": "popularity"},
    "ease": {"algorithm.name": "ease", "algorithm.penalty": 5.0},
}


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


def asked(**sections: object) -> Experiment:
    tree = {"evaluate": EVALUATE, "algorithm": {"name": "popularity"}, "second_stage": STAGE}
    return parse(tree | sections, "test")


def test_a_second_stage_orders_better_than_its_first_stage(store: TaskStore) -> None:
    experiment = asked(train={"parts": "train"})
    lines: list[str] = []
    found = fit_experiment(experiment, store, fitting=Fitting(progress=lines.append))
    judge = validation(experiment, store)
    first = fit_experiment(experiment.first_stage(), store)
    before = judge.by_k(Recommender(first).predictor)
    after = judge.by_k(Recommender(found).predictor)
    assert after[2] > before[2] + 0.01
    assert found.metrics["second_stage_ndcg@10"] >= found.metrics["first_stage_ndcg@10"]
    assert any("after 2 events ndcg@10" in line for line in lines)


@pytest.mark.parametrize("ranker", [STAGE["ranker"], TREES], ids=["networks", "boosted_trees"])
def test_both_stages_are_one_checkpoint(
    store: TaskStore, tmp_path: Path, ranker: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = STAGE | {"ranker": ranker}
    experiment = asked(blend={"members": MEMBERS}, second_stage=stage)
    assert experiment.second_stage is not None
    installed(experiment.second_stage.ranker)
    found = fit_experiment(experiment, store)
    assert bool(found.model["second_stage.helps"].any())
    monkeypatch.setitem(sys.modules, "lightgbm", None)  # nobody who serves needs it
    save(found, tmp_path / "saved")
    again = Recommender(load(tmp_path / "saved"))
    supports = validation(experiment, store).tasks.supports(2)
    assert torch.equal(again.scores(supports), Recommender(found).scores(supports))
    told = again.metadata["algorithm"]
    assert (told["name"], told["first_stage"]["name"]) == ("second_stage", "blend")
    assert again.kind == "learner"


def test_evaluation_and_serving_give_the_same_order(store: TaskStore) -> None:
    recommender = Recommender(fit_experiment(asked(), store))
    events = [SupportEvent(recommender.ids[3]), SupportEvent(recommender.ids[7])]
    served = recommender.rank(events, k=30).items
    supports = recommender._supports(events, {}, {})
    scores = recommender.scores(supports)[0].clone()
    scores[supports.item[0]] = -torch.inf
    scores[~recommender.trained] = -torch.inf
    ranked = top_k(scores, recommender.by_id, 30).tolist()
    assert [item.id for item in served] == [recommender.ids[row] for row in ranked]
    given = recommender.rank(events, [item.id for item in reversed(served)], k=30).items
    assert given == served


def test_the_same_fit_gives_the_same_bits(store: TaskStore) -> None:
    once, twice = (fit_experiment(asked(), store).model for _ in range(2))
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_a_fold_is_seen_by_nothing_that_its_lists_are_made_from(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by the first stage, nor by what is counted, nor by what is told of a day."""
    seen: list[set[int]] = []
    counted = shortlists.item_knowledge

    def watched(histories: Histories) -> dict[str, torch.Tensor]:
        seen.append(set(histories.task_id.tolist()))
        return counted(histories)

    for module in (shortlists, fitting):
        monkeypatch.setattr(module, "item_knowledge", watched)
    experiment = asked()
    stages = stage_experiments(experiment, store)
    fit_experiment(experiment, store)
    everybody = set(store.histories(("train", "valid")).task_id.tolist())
    fold = fold_of_entities(store.manifest.tasks, 2)
    for number in range(2):
        others = {task for task in everybody if fold[task] != number}
        assert seen[number] == others
        without = stages[f"first-fold{number}"].train.without
        assert set(store.without(without).histories(("train", "valid")).task_id.tolist()) == others
    assert seen[2] == everybody


def test_lists_are_of_what_a_new_entity_could_be_told(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happened on the day of a start or later does not count as known on that day."""
    moments: list[torch.Tensor] = []
    original = shortlists.popularity_as_of

    def watched(histories: Histories, when: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        moments.append(when)
        return original(histories, when, items)

    monkeypatch.setattr(shortlists, "popularity_as_of", watched)
    fit_experiment(asked(), store)
    history = store.histories(("train", "valid"))
    latest = history.time[history.offsets[:-1][history.lengths() > 0]].max()
    assert max(int(when.max()) for when in moments) <= latest


def test_networks_that_do_not_help_are_not_used(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fitting,
        "_judged",
        lambda *_: fitting._Verdict(torch.tensor([0.2, 0.2]), torch.tensor([0.1, 0.2])),
    )
    experiment = asked()
    found = fit_experiment(experiment, store)
    first = Recommender(fit_experiment(experiment.first_stage(), store))
    both = Recommender(found)
    for k in (0, 2):
        supports = validation(experiment, store).tasks.supports(k)
        ours, theirs = both.scores(supports), first.scores(supports)
        met = torch.where(supports.mask, -torch.inf, 0.0)
        may = theirs.masked_fill(~both.trained, -torch.inf).scatter_add(1, supports.item, met)
        best = may.amax(1)
        assert torch.equal(theirs.gather(1, ours.argmax(1, keepdim=True))[:, 0], best)


def test_a_blend_keeps_its_weights_in_every_fold(store: TaskStore) -> None:
    experiment = asked(blend={"members": MEMBERS})
    names = set(stage_experiments(experiment, store))
    assert names == {
        *(f"{name}-{kind}" for name in MEMBERS for kind in ("train", "final", "fold0", "fold1"))
    }
    blended = fit_experiment(experiment.first_stage(), store)
    both = fit_experiment(experiment, store)
    assert torch.equal(both.model["blend.weights"], blended.model["blend.weights"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train.without": {"fold": 0, "folds": 2}},
            r"train.without must be none, got fold 0 of 2 \(second_stage\)",
        ),
        (
            {"train.domains": {"weights": {"a": 1.0}}, "train.tasks.negatives": 5},
            r"train.domains must be none, got \['a'\] \(second_stage\)",
        ),
        (
            {"blend": {"members": {**MEMBERS, "popular": {"train.parts": "train"}}}},
            r"got train.parts train beside train\+valid \(second_stage\)",
        ),
        ({"train.teacher": "runs/teacher"}, r"which train.teacher has, got runs/teacher"),
    ],
)
def test_what_does_not_suit_is_refused(
    store: TaskStore, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        stage_experiments(override(asked(), changes), store)


def test_a_warm_start_that_knows_the_folds_is_refused(store: TaskStore, tmp_path: Path) -> None:
    train = {"num_workers": 1, "steps": 1, "lanes": 1, "lane_tasks": 2, "reference_items": 8}
    source = asked(algorithm={"name": "maml"}, model={"dim": 3}, train=train, second_stage=None)
    save(fit_experiment(source, store), tmp_path / "source")
    warm = override(source, {"second_stage": STAGE, "train.init_from": str(tmp_path / "source")})
    with pytest.raises(ConfigError, match=r"which train.init_from has, got .* of the same store"):
        stage_experiments(warm, store)


def test_ratings_are_refused(store: TaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rated = store.manifest.model_copy(update={"feedback": "explicit"})
    monkeypatch.setattr(store, "manifest", rated)
    with pytest.raises(ConfigError, match=r"needs implicit feedback, got explicit"):
        stage_experiments(asked(), store)


def test_it_is_learned_for_the_empty_support_alone(store: TaskStore) -> None:
    experiment = asked(evaluate={**EVALUATE, "ks": [0]})
    recommender = Recommender(fit_experiment(experiment, store))
    assert len(recommender.rank([], k=5).items) == 5


def test_a_member_that_breaks_after_a_support_leaves_the_ranking_of_the_prior(
    store: TaskStore,
) -> None:
    found = fit_experiment(asked(algorithm={"name": "ease", "penalty": 5.0}), store)
    similarity = found.model["similarity"].clone()
    similarity[3] = torch.nan
    broken = Recommender(found._replace(model=found.model | {"similarity": similarity}))
    ranking = broken.rank([SupportEvent(broken.ids[3])], k=5)
    prior = [item.id for item in broken.rank([], k=6).items if item.id != broken.ids[3]]
    assert (ranking.diverged, ranking.adapted) == (True, False)
    assert [item.id for item in ranking.items] == prior[:5]


def test_a_ranker_that_cannot_be_fitted_is_refused_before_any_first_stage(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    trees = asked(second_stage=STAGE | {"ranker": TREES})
    with pytest.raises(MachineError, match=r"boosted_trees needs the package lightgbm"):
        stage_experiments(trees, store)


def test_too_few_long_histories_are_refused(store: TaskStore) -> None:
    experiment = override(asked(), {"evaluate.min_positives": 10_000})
    with pytest.raises(
        DataError, match=r"with >= 10000 events .*fold 0 has none \(second_stage.folds\)"
    ):
        fit_experiment(experiment, store)
