import itertools
import logging
from pathlib import Path

import pytest
import torch

from metarec_ray.config.experiment import Evaluate, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.protocols.strict import StrictTasks, strict_tasks
from metarec_ray.evaluation.rivals import fitted, standard_rivals
from metarec_ray.evaluation.scoring import recommender_method
from metarec_ray.evaluation.table.rows import Header, evaluate
from tests.unit.algorithms.plain_events import index_only

SETTINGS = Evaluate(
    ks=(0, 1, 3), query_size=3, min_positives=6, positive_min=3.0, resamples=1000, force=True
)


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


@pytest.fixture(scope="module")
def tasks(store: TaskStore) -> StrictTasks:
    return strict_tasks(store, SETTINGS)


def test_nothing_at_or_after_the_cutoff_may_be_learned_from(store: TaskStore, tasks: StrictTasks):
    histories, cutoff = store.histories(("train", "valid")), store.manifest.cutoff
    assert cutoff is not None
    assert histories.cutoff == cutoff
    assert (histories.time < cutoff).all()
    assert (tasks.time >= cutoff).all()


def test_every_query_is_among_the_candidates_and_no_support_is(tasks: StrictTasks):
    for k in SETTINGS.ks:
        candidates = tasks.candidates(k)
        assert candidates.gather(1, tasks.query).all()
        assert not candidates.gather(1, tasks.support).any()


def test_ages_count_the_later_events():
    mask = torch.tensor([[True, True, True], [True, False, False]])
    events = index_only(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), mask)
    assert events.age.tolist() == [[2, 1, 0], [0, 0, 0]]


def test_standard_rows_go_from_a_store_to_a_table(store: TaskStore, tasks: StrictTasks):
    clock = itertools.count().__next__
    learners = standard_rivals("explicit", n_items=len(tasks.trained), positive_min=3.0)
    methods = [
        recommender_method(fitted(learner, parse({}, "test"), store), tasks) for learner in learners
    ]
    rows = evaluate(
        tasks, methods, SETTINGS, header=Header("made", "explicit", 0), clock=lambda: float(clock())
    )
    names = (
        """random popularity recency_popularity item_knn ease constant user_item_bias eb_ridge"""
    )
    assert list(dict.fromkeys(row["method"] for row in rows)) == names.split()
    level = {(row["method"], row["k"]): row["ndcg@10"] for row in rows}
    assert level["item_knn", 0] == level["popularity", 0]


def test_rows_for_ratings_stand_only_among_ratings():
    names = {
        type(one).__name__ for one in standard_rivals("implicit", n_items=5, positive_min=None)
    }
    assert not names & {"UserItemBias", "EBRidge", "Constant"}


def test_a_large_catalogue_loses_its_matrices_with_a_warning(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        learners = standard_rivals("implicit", n_items=20_001, positive_min=None)
    names = [type(one).__name__ for one in learners]
    assert names == ["Random", "Popularity", "RecencyPopularity", "SequenceNeighbours"]
    assert "ease is left out: it takes 20000 items, got 20001" in caplog.text


def test_the_empty_support_alone_makes_a_table(store: TaskStore):
    settings = SETTINGS.model_copy(update={"ks": (0,)})
    tasks = strict_tasks(store, settings)
    learners = standard_rivals("implicit", n_items=len(tasks.trained), positive_min=None)
    methods = [
        recommender_method(fitted(learner, parse({}, "test"), store), tasks) for learner in learners
    ]
    header = Header("made", "implicit", 0)
    rows = evaluate(tasks, methods, settings, header=header, clock=lambda: 0.0)
    assert [row["k"] for row in rows] == [0] * len(learners)
    assert [row["adaptation_gain"] for row in rows] == [0] * len(learners)
