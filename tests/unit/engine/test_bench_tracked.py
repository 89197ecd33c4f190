"""What is told of a bench: the cells on disk, with the measures of its table."""

from pathlib import Path

import pytest
import torch

from metarec_ray.config.experiment import override, parse
from metarec_ray.data.store.manifest import load
from metarec_ray.engine.bench_tracked import BenchRuns, point
from metarec_ray.evaluation.bench.cells import make_cell, write_cell
from metarec_ray.evaluation.bench.lineup import Entry
from metarec_ray.evaluation.table.ranking_measures import Condition, Measured
from metarec_ray.evaluation.table.rows import Header, judge

EASE = Entry("ease", "rival", {"algorithm.name": "ease"}, 1)


def measured(values: dict[str, list[float]], k: int = 3) -> Measured:
    tensors = {name: torch.tensor(value) for name, value in values.items()}
    weight = torch.tensor([1.0, 3.0, 1.0])
    condition = Condition(k=k)
    return Measured("ease", "rival", 0, condition, ["a", "b", "c"], weight, tensors, {"adapted": 1})


def test_the_means_are_those_of_the_table() -> None:
    rankings = {"ndcg@10": [0.5, 0.25, 0.0], "recall@10": [1.0, float("nan"), 0.0]}
    found = point(measured(rankings))
    assert (found.step, found.values) == (
        3,
        {"ndcg_at_10": 0.25, "recall_at_10": 0.5, "adapted": 1.0},
    )
    errors = {"squared_error": [1.0, 4.0, 1.0], "ndcg@5": [0.5, 0.5, 0.5]}
    one = measured(errors)
    (row,) = judge([one], Header("d", "explicit", 0, "melu"), resamples=100)
    assert row["rmse"] == pytest.approx((14 / 5) ** 0.5)
    assert point(one).values["rmse"] == pytest.approx(row["rmse"])


def test_cells_are_runs_when_they_are_on_disk_or_have_failed(
    synthetic_store: Path, tmp_path: Path
) -> None:
    asked, manifest = parse({}, "the test"), load(synthetic_store)
    cells = [
        make_cell(
            "strict", EASE, asked, manifest,
            seed=seed, store=synthetic_store, folder=tmp_path, data_dir=None,
        )
        for seed in (0, 1)
    ]  # fmt: skip
    runs = BenchRuns(asked, manifest, cells, words=("metarec", "bench", "x.yaml"))
    assert [one.key for one in runs.known()] == [""]
    facts = {
        "overrides": {"algorithm.penalty": 5.0},
        "config_sha256": "abc",
        "cpu_seconds": 2.0,
        "wall_seconds": 3.0,
    }
    both = [measured({"ndcg@10": [0.5, 0.25, 0.0]}, k) for k in (0, 3)]
    write_cell(cells[0], both, facts)
    runs.failed["ease seed 1"] = "OSError: no space left"
    own, done, failed = runs.known()
    assert (own.name, own.params["protocol"]) == ("bench strict", "strict")
    assert (done.name, done.status) == ("ease seed 0", "finished")
    assert done.params == {
        "method": "ease",
        "kind": "rival",
        "seed": "0",
        "algorithm.penalty": "5.0",
    }
    assert [(p.step, p.values) for p in done.points] == [
        (0, {"adapted": 1.0, "ndcg_at_10": 0.25}),
        (3, {"adapted": 1.0, "ndcg_at_10": 0.25}),
        (0, {"cpu_seconds": 2.0, "wall_seconds": 3.0}),
    ]
    assert (failed.status, failed.tags) == ("failed", {"metarec.why": "OSError: no space left"})
    assert own.status == "running"
    runs.status = "finished"
    assert runs.known()[0].status == "failed"


def test_where_a_run_is_tracked_makes_no_cell_anew(synthetic_store: Path, tmp_path: Path) -> None:
    asked, manifest = parse({}, "the test"), load(synthetic_store)
    told = {"train.mlflow": "http://h", "train.tensorboard": True, "bench.mlflow": "http://h"}
    keys = {
        make_cell(
            "strict", EASE, one, manifest,
            seed=0, store=synthetic_store, folder=tmp_path, data_dir=None,
        ).key
        for one in (asked, override(asked, told))
    }  # fmt: skip
    assert len(keys) == 1
