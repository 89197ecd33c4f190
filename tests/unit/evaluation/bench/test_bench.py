import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from metarec_ray.algorithms.rivals.neighbours import Ease
from metarec_ray.checkpoint import save, step_path
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data, Synthetic
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.domains import Domains
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.evaluation.bench.cells import Cell, make_cell, read_cell
from metarec_ray.evaluation.bench.leaks import refuse_leaks_of_ratings
from metarec_ray.evaluation.bench.lineup import Entry, chosen, lineup
from metarec_ray.evaluation.bench.protocols import item_vectors, open_protocol
from metarec_ray.evaluation.bench.run import Tuned, run, tune
from metarec_ray.evaluation.protocols.ratings import rule_tasks
from metarec_ray.evaluation.table.groups import groups_of
from metarec_ray.evaluation.validation import validate
from metarec_ray.inference.recommender import Recommender
from metarec_ray.report.bench import bench_page
from metarec_ray.report.bench_markdown import markdown
from metarec_ray.training.fit import fit, fit_histories

EASE = Entry("ease", "rival", {"algorithm.name": "ease"}, 1)


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    folder = tmp_path_factory.mktemp("ratings") / "store"
    settings = Data(
        buckets=1, feedback="explicit", synthetic=Synthetic(users=200, items=60, mean_events=20.0)
    )
    build_store(read_log(settings), settings, folder)
    return TaskStore.open(folder)


def experiment(**sections: Any) -> Experiment:
    evaluate = {"ks": [0, 3], "query_size": 3, "min_positives": 6, "resamples": 200, "force": True}
    return parse({"evaluate": evaluate, **sections}, "the test")


def cell(
    store: TaskStore, folder: Path, asked: Experiment, entry: Entry = EASE, seed: int = 0
) -> Cell:
    return make_cell(
        "strict", entry, asked, store.manifest,
        seed=seed, store=store.path, folder=folder, data_dir=None,
    )  # fmt: skip


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


def test_rankings_are_tuned_by_rankings_whatever_the_labels(ratings: TaskStore, tmp_path: Path):
    grid = tuple({"algorithm.half_life_days": value} for value in (0.01, 1e6))
    entry = Entry("recency", "rival", {"algorithm.name": "recency_popularity"}, 1, grid)
    found = tune(cell(ratings, tmp_path, experiment(), entry))
    assert found.quality is not None
    assert 0 < found.quality < 1  # an NDCG, no error of ratings


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


def test_the_key_of_a_cell_is_that_of_everything_its_numbers_depend_on(
    store: TaskStore, tmp_path: Path
):
    base = cell(store, tmp_path, experiment())
    same = experiment(run={"dir": "elsewhere"}, bench={"seeds": 9})
    assert cell(store, tmp_path, same).key == base.key
    others = [
        cell(store, tmp_path, experiment(), seed=1),
        cell(store, tmp_path, experiment(train={"steps": 3})),
        cell(store, tmp_path, experiment(), EASE._replace(overrides={"algorithm.name": "maml"})),
        cell(store, tmp_path, experiment(), EASE._replace(grid=({"algorithm.penalty": 1.0},))),
    ]
    assert len({base.key, *(other.key for other in others)}) == 5
    assert others[0].tuning_key == base.tuning_key
    manifest = store.manifest.model_copy(update={"feedback": "explicit"})
    relabelled = make_cell(
        "strict", EASE, experiment(), manifest,
        seed=0, store=store.path, folder=tmp_path, data_dir=None,
    )  # fmt: skip
    assert relabelled.key != base.key


def test_a_cell_is_made_anew_when_what_it_begins_with_was_trained_anew(
    store: TaskStore, tmp_path: Path
):
    entry = Entry("maml", "learner", {"algorithm.name": "maml"}, 1)
    keys = []
    for seed in (0, 1):
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        train = {"steps": 1, "lanes": 2, "lane_tasks": 2}
        source = experiment(train=train, run={"seed": seed}, algorithm={"name": "maml"})
        save(fit(source, store), step_path(tmp_path / "checkpoints", 1))
        asked = experiment(train={"init_from": str(tmp_path)})
        keys.append(cell(store, tmp_path, asked, entry).key)
    assert keys[0] != keys[1]


def ticking(*times: float) -> Callable[[], float]:
    return iter(times).__next__


def test_a_cell_is_read_back_as_it_was_measured(store: TaskStore, tmp_path: Path):
    ours = cell(store, tmp_path, experiment())
    assert read_cell(ours) is None
    run(ours, Tuned({"algorithm.penalty": 5.0}), cpu=ticking(0.0, 1.0, 700.0))
    found = read_cell(ours)
    assert found is not None
    measured, facts = found
    assert [(one.method, one.kind, one.condition.k) for one in measured] == [
        ("ease", "rival", 0),
        ("ease", "rival", 3),
    ]
    assert measured[0].values["gain"].abs().sum() == 0
    assert measured[1].values["ndcg@10"].mean() > measured[0].values["ndcg@10"].mean()
    assert "diversity@10" in measured[0].values
    assert facts["overrides"] == {"algorithm.name": "ease", "algorithm.penalty": 5.0}
    assert facts["store_sha256"] == store.manifest.store_sha256
    # Opening the tasks took one second of CPU, fitting and judging 699: more than ten minutes.
    assert (facts["cpu_seconds"], facts["over_budget"]) == (699, True)
    (tmp_path / f"{ours.name}.json").unlink()
    assert read_cell(ours) is None  # the file that is written last decides


def test_a_rival_is_tuned_on_validation_entities_within_its_budget(
    store: TaskStore, tmp_path: Path
):
    grid = tuple({"algorithm.penalty": value} for value in (1e6, 3.0, 100.0))
    ours = cell(store, tmp_path, experiment(), EASE._replace(grid=grid))
    quality = []
    for point in grid:
        asked = override(experiment(), {**EASE.overrides, **point, "train.parts": "train"})
        judged = validate(Recommender(fit_histories(asked, store)).predictor, asked, store)
        quality.append(sum(judged.values()) / 2)
    found = tune(ours)
    assert found.overrides == grid[quality.index(max(quality))]
    assert (found.quality, found.tried, found.asked) == (max(quality), 3, 3)
    # Half of ten minutes is gone after the first candidate: no other one begins.
    spent = tune(ours, cpu=ticking(0.0, 301.0, 301.0))
    assert (spent.overrides, spent.tried, spent.asked) == ({"algorithm.penalty": 1e6}, 1, 3)


def test_a_cell_of_ratings_has_a_row_a_scenario(ratings: TaskStore, tmp_path: Path):
    asked = override(
        experiment(), {"data.feedback": "explicit", "evaluate.ratings.min_ratings": 11}
    )
    entry = Entry("user_item_bias", "rival", {"algorithm.name": "user_item_bias"}, 1)
    ours = make_cell(
        "melu", entry, asked, ratings.manifest,
        seed=1, store=ratings.path, folder=tmp_path, data_dir=None,
    )  # fmt: skip
    run(ours, Tuned({}))
    found = read_cell(ours)
    assert found is not None
    assert found[0][0].condition.scenario == "user_cold"
    assert found[0][0].values["squared_error"].mean() > 0


@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        ("nope", "--protocol must be one of strict, melu, item_kshot, cross_domain, got 'nope'"),
        ("melu", r"--protocol melu judges predicted labels .*got implicit \(data\.feedback\)"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(store: TaskStore, protocol: str, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        open_protocol(protocol, experiment(), store, seed=0, data_dir=None)


def test_rating_tasks_that_ask_what_training_or_the_support_knows_are_refused(ratings: TaskStore):
    settings = override(experiment(), {"evaluate.ratings.min_ratings": 11}).evaluate.ratings
    tasks = rule_tasks(ratings, settings, seed=0, force=True)[0]
    refuse_leaks_of_ratings(ratings, tasks)
    known = tasks._replace(query=tasks.support.item[:, :1].expand_as(tasks.query))
    with pytest.raises(DataError, match=r"a query row must not be in its support, got item '\d+'"):
        refuse_leaks_of_ratings(ratings, known)
    history = ratings.histories(("train",))
    name = ratings.entity_ids()[int(history.task_id[0])]
    trained = tasks._replace(
        entity=[name, *tasks.entity[1:]],
        query=torch.cat([history.item[:1].expand(1, tasks.query.shape[1]), tasks.query[1:]]),
    )
    with pytest.raises(DataError, match=r"must not be in training, got item .* \(user_cold"):
        refuse_leaks_of_ratings(ratings, trained)


def test_items_are_as_near_as_the_entities_that_met_both(store: TaskStore):
    table = store.histories(("train", "valid"))
    met = torch.zeros(len(table.task_id), 80)
    met[torch.repeat_interleave(torch.arange(len(met)), table.lengths()), table.item] = 1
    both = met.T @ met
    cosine = both / both.diagonal().outer(both.diagonal()).sqrt().clamp(min=1)
    vectors = item_vectors(store)
    assert torch.allclose(torch.from_numpy((vectors @ vectors.T).toarray()), cosine, atol=1e-5)


def test_groups_are_thirds_by_activity_and_values_of_features(store: TaskStore):
    tasks = {str(task): task for task in store.histories(("test",), cut=False).task_id.tolist()}
    groups = groups_of(store, tasks)
    sizes = [len(members) for members in groups["activity"].values()]
    assert sum(sizes) == len(tasks)
    assert max(sizes) - min(sizes) <= 1
    assert set.union(*groups["age"].values()) <= set(tasks)


def rows(**more: Any) -> list[dict[str, Any]]:
    def row(name: str, kind: str, k: int, level: float) -> dict[str, Any]:
        return {
            "protocol": "strict", "dataset": "made", "feedback": "implicit", "method": name,
            "kind": kind, "k": k, "n": 200, "ndcg@10": level, "ci95": [level - 0.01, level + 0.01],
            "better": name == "ours", "better_than_simple": name == "ours", "seeds": [0, 1],
            "chance": kind == "floor", "command": f"metarec bench x.yaml --learners {name}",
            "groups": {"gender=F": level, "gender=M": level}, **more,
        }  # fmt: skip

    return [
        row(name, kind, k, level)
        for name, kind, level in (
            ("random", "floor", 0.01), ("<ease>", "rival", 0.1), ("ours", "learner", 0.2)
        )
        for k in (0, 3)
    ]  # fmt: skip


def test_the_markdown_has_a_line_a_method_and_says_what_is_better():
    lines = markdown(rows()).splitlines()
    assert "| ours | learner | 2 | 0.2000+* +- 0.0100 | 0.2000+* +- 0.0100 |" in lines
    assert "| random | floor | 2 | 0.0100~ +- 0.0100 | 0.0100~ +- 0.0100 |" in lines
    assert "| ours | `metarec bench x.yaml --learners ours` |" in lines


def test_the_page_draws_curves_and_escapes_names():
    page = bench_page(rows())
    assert "ours: better than the best rival somewhere" in page
    assert "&lt;ease&gt;" in page
    assert "<ease>" not in page
    assert page.count("<svg") == 2


def test_a_control_stands_in_the_table_and_not_in_the_chart():
    control = [{**row, "method": "ours:target_only", "kind": "control"} for row in rows()[-2:]]
    page = bench_page([*rows(), *control])
    chart = page[page.index("<svg") : page.index("</svg>")]
    assert "ours:target_only" in page
    assert "ours:target_only" not in chart


def test_the_page_of_ratings_draws_a_line_a_method():
    shown = [
        {**row, "scenario": "user_cold", "rmse": row["ndcg@10"], "k": None}
        for row in rows()
        if row["k"] == 3
    ]
    for row in shown:
        del row["ndcg@10"], row["k"]
    page = bench_page(shown)
    assert page.count("<svg") == 1
    assert "RMSE, user_cold" in page
