from pathlib import Path

import pytest
import torch

from metarec_ray.checkpoint import load, save
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError, NotFinite
from metarec_ray.evaluation.blend import blend, fit_blend, member_experiments
from metarec_ray.evaluation.protocols.strict import StrictTasks
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.predictor import member_scores
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit

EVALUATE = {"ks": [0, 2], "query_size": 2, "min_positives": 4}
MEMBERS = {
    "popular": {"algorithm.name": "popularity"},
    "ease": {"algorithm.name": "ease", "algorithm.penalty": 5.0},
}


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


def asked(**sections: dict) -> Experiment:
    return parse({"evaluate": EVALUATE} | sections, "test")


def test_a_blend_scores_the_weighted_sum_of_its_members(store: TaskStore) -> None:
    experiment = asked(blend={"members": MEMBERS})
    found = fit_blend(experiment, store)
    blend = Recommender(found)
    supports = validation(experiment, store).tasks.supports(2)
    scores = blend.scores(supports)
    weights = found.model["blend.weights"][1]
    parts = [
        member_scores(Recommender(fit(member, store)).predictor, supports, "implicit")
        for member in experiment.members().values()
    ]
    torch.testing.assert_close(scores, weights[0] * parts[0] + weights[1] * parts[1])
    asked_for = torch.tensor([[3, 1]]).expand(len(scores), 2)
    torch.testing.assert_close(blend.scores(supports, items=asked_for), scores[:, [3, 1]])
    assert blend.metadata["algorithm"]["weights"]["2"].keys() == MEMBERS.keys()


def test_a_member_without_a_number_for_everybody_is_not_weighed(store: TaskStore) -> None:
    experiment = asked(blend={"members": MEMBERS})
    members = {name: fit(one, store) for name, one in member_experiments(experiment, store).items()}
    similarity = members["ease-train"].model["similarity"].clone()
    similarity[:, 3] = torch.nan
    broken = members["ease-train"]
    members["ease-train"] = broken._replace(model=broken.model | {"similarity": similarity})
    with pytest.raises(NotFinite, match=r"ease gives nan for entity \d+ after k = 2 events"):
        blend(experiment, store, members, started=0.0)


def test_a_saved_blend_gives_each_member_its_own_weight(store: TaskStore, tmp_path: Path) -> None:
    found = fit_blend(asked(blend={"members": MEMBERS}), store)
    save(found, tmp_path / "saved")
    supports = validation(asked(), store).tasks.supports(2)
    again = Recommender(load(tmp_path / "saved"))
    assert list(MEMBERS) != sorted(MEMBERS)
    assert torch.equal(again.scores(supports), Recommender(found).scores(supports))
    assert again.metadata == Recommender(found).metadata


def test_a_blend_adds_up_what_was_fitted_on_the_parts_that_were_asked_for(
    store: TaskStore,
) -> None:
    members = {name: {"algorithm.name": "popularity"} for name in "ab"}
    for parts in ("train", "train+valid"):
        asked = parse({"train": {"parts": parts}, "blend": {"members": members}}, "a test")
        found = {n: one.train.parts for n, one in member_experiments(asked, store).items()}
        assert found == {
            **{"a-train": "train", "b-train": "train"},
            **{"a-final": parts, "b-final": parts},
        }


def test_weights_are_chosen_without_a_look_at_test_entities(store: TaskStore) -> None:
    judged = validation(asked(), store)
    parts = store.histories(("valid",)).task_id
    assert torch.isin(judged.tasks.entity, parts).all()
    assert isinstance(judged.tasks, StrictTasks)
    assert store.manifest.cutoff is not None
    assert (judged.tasks.time < store.manifest.cutoff).all()


def test_no_member_is_better_than_the_weights_by_what_chose_them(store: TaskStore) -> None:
    experiment = asked(blend={"members": MEMBERS})
    members = {name: fit(one, store) for name, one in member_experiments(experiment, store).items()}
    weights = blend(experiment, store, members, started=0.0).model["blend.weights"]
    judge = validation(experiment, store)
    for k, row in zip(judge.ks, weights, strict=True):
        parts = torch.stack(
            [
                member_scores(
                    Recommender(members[f"{name}-train"]).predictor,
                    judge.tasks.supports(k),
                    "implicit",
                )
                for name in experiment.blend.members
            ]
        )
        alone = [judge.quality(part, k).mean() for part in parts]
        assert judge.quality(torch.einsum("m,mti->ti", row, parts), k).mean() >= max(alone)


def test_more_validation_entities_than_are_needed_are_the_same_draw_of_them(
    store: TaskStore,
) -> None:
    every = validation(asked(), store).tasks
    few = override(asked(), {"evaluate.validation_entities": 7})
    some, again = (validation(few, store).tasks for _ in range(2))
    assert some.entity.tolist() == again.entity.tolist()
    kept = torch.isin(every.entity, some.entity).nonzero().squeeze(1)
    assert len(kept) == 7
    for name in ("support", "query", "query_event"):
        assert torch.equal(getattr(some, name), getattr(every, name)[kept])
    assert torch.equal(some.candidates(2), every.candidates(2)[kept])


def test_nobody_to_choose_by_is_one_sentence(store: TaskStore) -> None:
    nobody = override(asked(), {"evaluate.min_positives": 1000})
    with pytest.raises(DataError, match=r"validation entity with >= 1000 events .* none among \d+"):
        validation(nobody, store)


def test_quality_is_one_number_a_k_and_higher_is_better(store: TaskStore) -> None:
    train = {"parts": "train"}
    ease = asked(algorithm={"name": "ease", "penalty": 5.0}, train=train)
    chance = asked(algorithm={"name": "random"}, train=train)
    good, bad = (
        validation(one, store).by_k(Recommender(fit(one, store)).predictor)
        for one in (ease, chance)
    )
    assert good.keys() == {0, 2}
    assert good[2] > bad[2]


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"one": {}}, "a blend has two members or more, got .'one'."),
        ({"a": {}, "b": {"run.seed": 1}}, "keys of algorithm, model and train, got run.seed of b"),
        (
            {"a": {}, "b": {"train.steps": 0}},
            "train.steps must be > 0, got 0 .*member of",
        ),
    ],
)
def test_a_wrong_blend_is_one_sentence(members: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        asked(blend={"members": members})
