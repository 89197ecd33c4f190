import logging
from typing import Any

import pytest

from metarec_ray.algorithms.rivals.neighbours import Ease
from metarec_ray.config.experiment import Experiment, override
from metarec_ray.data.tasks.domains import Domains
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.bench.lineup import Entry, chosen, lineup
from tests.unit.evaluation.bench.small import experiment


def full(asked: Experiment, *, n_items: int = 80, ratings: bool = False) -> dict[str, Entry]:
    return lineup(asked, "implicit", n_items=n_items, positive_min=None, ratings=ratings)


def test_closed_forms_have_one_seed_unless_a_seed_shuffles_the_tasks():
    asked = experiment(bench={"seeds": 4})
    entries = full(asked)
    assert (entries["ease"].seeds, entries["maml"].seeds) == (1, 4)
    ratings = lineup(asked, "explicit", n_items=80, positive_min=None, ratings=True)
    assert {entry.seeds for entry in ratings.values()} == {4}
    assert "user_item_bias" not in entries  # it learns from ratings
    assert all(len(entry.grid) <= 12 for entry in entries.values())


def test_the_bench_section_adds_a_learner_or_replaces_one():
    learners = {
        "mine": {"algorithm": {"name": "maml", "inner_lr": 0.3}, "train": {"steps": 7}},
        "ease": {"algorithm": {"name": "ease", "penalty": 9.0}, "seeds": 2},
        "noise": {"algorithm": {"name": "random"}, "kind": "learner"},
        "alone": {
            "algorithm": {"name": "prototype"},
            "train": {"domains": {"weights": {"food": 1.0}, "source": False}},
            "kind": "control",
        },
    }
    entries = full(experiment(bench={"learners": learners}))
    assert entries["mine"].overrides == {
        "algorithm.name": "maml",
        "algorithm.inner_lr": 0.3,
        "train.steps": 7,
    }
    assert entries["ease"] == Entry(
        "ease", "rival", {"algorithm.name": "ease", "algorithm.penalty": 9.0}, 2
    )
    assert entries["noise"].kind == "learner"
    alone = override(experiment(), entries["alone"].overrides)
    assert alone.train.domains == Domains(weights={"food": 1.0}, source=False)
    assert [e.name for e in chosen(entries, [], alone=False) if e.kind == "control"] == ["alone"]


def test_a_blend_is_a_learner_of_a_bench():
    members = {"a": {"algorithm.name": "ease"}, "b": {"algorithm.name": "popularity"}}
    entries = full(experiment(bench={"learners": {"both": {"blend": {"members": members}}}}))
    assert entries["both"].kind == "learner"
    assert entries["both"].overrides == {"blend": {"members": members}}


@pytest.mark.parametrize(
    ("learner", "sentence"),
    [
        ({"train": {"steps": 7}}, r"must have algorithm\.name or blend\.members .*learners\.mine"),
        ({"algorithm": {"name": "maml"}, "seeds": 0}, r"learners\.mine\.seeds must be >= 1, got 0"),
        ({"algorithm": {"name": "maml"}, "kind": "baseline"}, r"learners\.mine\.kind must be"),
        ({"algorithm": {"name": "maml", "speed": 1}}, r"speed is not a known key .*learners\.mine"),
    ],
)
def test_a_learner_that_cannot_be_is_refused(learner: dict[str, Any], sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        full(experiment(bench={"learners": {"mine": learner}}))


def test_what_an_experiment_asks_of_its_own_learner_is_not_asked_of_others():
    members = {"a": {"algorithm.name": "ease"}, "b": {"algorithm.name": "popularity"}}
    asked = experiment(
        blend={"members": members},
        train={"periods": 4},
        bench={"learners": {"mine": {"algorithm": {"name": "ease"}}}},
    )
    entries = lineup(asked, "explicit", n_items=80, positive_min=3.0, ratings=False)
    mine = override(asked, entries["mine"].overrides)
    assert (mine.blend.members, mine.train.periods) == ({}, 1)
    assert mine.algorithm == Ease(positive_min=3.0)
    assert override(asked, entries["popularity"].overrides).train.periods == 1
    assert override(asked, entries["maml"].overrides).train.periods == 4
    assert entries["blend"].overrides == {}


def test_what_only_ranks_is_not_asked_for_ratings():
    ratings = lineup(experiment(), "explicit", n_items=80, positive_min=4.0, ratings=True)
    assert not {"popularity", "ease", "ials", "random"} & set(ratings)
    assert {"constant", "user_item_bias", "user_knn_ratings", "maml", "eb_ridge"} <= set(ratings)


def test_named_learners_stand_beside_floors_and_rivals_unless_alone():
    entries = full(experiment())
    beside = chosen(entries, ["maml"], alone=False)
    assert [entry.name for entry in beside][-1] == "maml"
    assert {"random", "popularity", "ease"} < {entry.name for entry in beside}
    assert [entry.kind for entry in beside] == sorted(
        (entry.kind for entry in beside), key=("floor", "rival", "learner").index
    )
    assert [entry.name for entry in chosen(entries, ["maml", "ease"], alone=True)] == [
        "ease",
        "maml",
    ]
    with pytest.raises(ConfigError, match=r"--learners must be among .*, got 'nope'"):
        chosen(entries, ["nope"], alone=False)


def test_a_large_catalogue_loses_its_matrices_with_a_warning(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        entries = full(experiment(), n_items=20_001)
    assert "ease" not in entries
    assert "ease is left out: it takes 20000 items, got 20001" in caplog.text


def test_who_reads_further_labels_stands_in_tables_of_logs_that_have_them() -> None:
    plain = experiment()
    labelled = override(plain, {"data.labels": {"dwell": {}}})
    found = [
        lineup(one, "explicit", n_items=10, positive_min=4.0, ratings=True)
        for one in (plain, labelled)
    ]
    assert "multi_output_head" not in found[0]
    assert {*found[1]} - {*found[0]} == {"multi_output_head"}
