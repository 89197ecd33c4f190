from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from metarec_ray.config.experiment import override
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import NotFinite
from metarec_ray.evaluation.bench.cells import make_cell, read_cell, write_cell
from metarec_ray.evaluation.bench.lineup import Entry
from metarec_ray.evaluation.bench.run import Tuned, run, tune
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit_histories
from tests.unit.evaluation.bench.small import EASE, cell, experiment
from tests.unit.failing_disk import FAULTS, NOTHING, Killed, failing

TABLES = ((pl.DataFrame, "write_parquet", 1),)


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
        judge = validation(asked, store)
        quality.append(judge.value(Recommender(fit_histories(asked, store)).predictor))
    found = tune(ours)
    assert found.overrides == grid[quality.index(max(quality))]
    assert (found.quality, found.tried, found.asked) == (max(quality), 3, 3)
    # Half of ten minutes is gone after the first candidate: no other one begins.
    spent = tune(ours, cpu=ticking(0.0, 301.0, 301.0))
    assert (spent.overrides, spent.tried, spent.asked) == ({"algorithm.penalty": 1e6}, 1, 3)


def test_a_candidate_whose_scores_are_no_numbers_is_never_chosen(
    store: TaskStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    # Beyond float32, and so infinite.
    grid = tuple({"algorithm.strength": value} for value in (1e39, 4.0, 1e40))
    entry = Entry("profile", "rival", {"algorithm.name": "content_profile"}, 1, grid)
    found = tune(cell(store, tmp_path, experiment(), entry))
    assert (found.overrides, found.tried, found.refused) == (grid[1], 3, 2)
    assert found.quality is not None
    assert found.quality > 0
    assert "{'algorithm.strength': 1e+39} is no candidate of profile: scores must" in caplog.text
    with pytest.raises(NotFinite, match="finite, content_profile gives nan for entity"):
        tune(cell(store, tmp_path, experiment(), entry._replace(grid=grid[::2])))


def test_rankings_are_tuned_by_rankings_whatever_the_labels(ratings: TaskStore, tmp_path: Path):
    grid = tuple({"algorithm.half_life_days": value} for value in (0.01, 1e6))
    entry = Entry("recency", "rival", {"algorithm.name": "recency_popularity"}, 1, grid)
    found = tune(cell(ratings, tmp_path, experiment(), entry))
    assert found.quality is not None
    assert 0 < found.quality < 1  # an NDCG, no error of ratings


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


@pytest.mark.parametrize("kind", FAULTS)
def test_a_cell_that_could_not_be_written_is_whole_or_none(
    store: TaskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    ours = cell(store, tmp_path, experiment())
    run(ours, Tuned({"algorithm.penalty": 5.0}))
    made = read_cell(ours)
    assert made is not None
    measured, facts = made
    with failing(monkeypatch, -1, NOTHING, TABLES) as disk:
        write_cell(ours, measured, facts)
    for at in range(disk.calls):
        for path in tmp_path.glob(f"{ours.name}*"):
            path.unlink()
        with suppress(OSError, Killed), failing(monkeypatch, at, FAULTS[kind], TABLES):
            write_cell(ours, measured, facts)
        found = read_cell(ours)
        assert found is None or found[1] == facts
    write_cell(ours, measured, facts)
    assert read_cell(ours) is not None
