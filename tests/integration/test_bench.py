"""A bench on Ray: what it writes, that it resumes, and that one failure does not end it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml

from metarec_ray.engine.bench import Asked, bench
from metarec_ray.engine.bench_cells import State

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def config(folder: Path, store: Path, **learners: object) -> Path:
    tree = {
        "run": {"dir": str(folder), "store": str(store)},
        "model": {"dim": 4},
        "train": {"steps": 2, "lanes": 1, "lane_tasks": 4, "num_workers": 1},
        "evaluate": {"ks": [0, 3], "query_size": 3, "min_positives": 6, "force": True},
        "bench": {"seeds": 2, "learners": learners},
    }
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_bench_writes_rows_that_say_where_they_come_from_and_resumes(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    noise = {"algorithm": {"name": "random"}, "kind": "learner"}
    path = config(tmp_path, synthetic_store, noise=noise)
    asked = Asked(path, [], "strict", ["random", "item_knn", "fomaml", "noise"], alone=True)
    states: list[State] = []
    found = bench(asked, data_dir=None, watch=states.append)
    assert found.failed == {}
    assert (states[-1].done, states[-1].total) == (5, 5)  # fomaml has two seeds
    assert "indistinguishable from chance" in found.text
    rows = {(row["method"], row["k"]): row for row in found.rows}
    assert set(rows) == {(n, k) for n in ("random", "item_knn", "fomaml", "noise") for k in (0, 3)}
    assert rows["noise", 3]["chance"]
    assert rows["fomaml", 3]["seeds"] == [0, 1]
    assert rows["item_knn", 3]["tried"] == rows["item_knn", 3]["asked"] == 12
    command = f"metarec bench {path} --protocol strict --learners fomaml"
    assert rows["fomaml", 3]["command"] == command
    out = tmp_path / "bench" / "strict"
    assert json.loads((out / "results.json").read_text())["rows"] == found.rows
    assert len(pl.read_parquet(out / "results.parquet")) == len(found.rows)
    assert "<svg" in (out / "index.html").read_text()
    assert "| fomaml | learner | 2 |" in (out / "results.md").read_text()
    cells = {file: file.stat().st_mtime_ns for file in (out / "cells").iterdir()}
    again = bench(asked, data_dir=None, watch=states.append)
    assert again.rows == found.rows
    assert {file: file.stat().st_mtime_ns for file in (out / "cells").iterdir()} == cells


def test_a_cell_that_fails_is_named_and_the_others_go_on(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    small = {"algorithm": {"name": "ease", "max_items": 5}}
    path = config(tmp_path, synthetic_store, small=small)
    asked = Asked(path, [], "strict", ["small", "popularity"], alone=True)
    found = bench(asked, data_dir=None, watch=lambda state: None)
    assert set(found.failed) == {"small seed 0"}
    assert "takes at most 5 items, got a catalogue of 80" in found.failed["small seed 0"]
    assert {str(row["method"]) for row in found.rows} == {"popularity"}


@pytest.mark.slow
def test_a_killed_bench_keeps_its_cells_and_the_same_command_goes_on(
    synthetic_store: Path, tmp_path: Path
) -> None:
    path = config(tmp_path, synthetic_store)
    line = [sys.executable, "-m", "metarec_ray", "bench", str(path), "--learners", "fomaml"]
    line += ["--alone", "--seeds", "6", "--json"]
    cells = tmp_path / "bench" / "strict" / "cells"
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as begun:
        until = time.monotonic() + 120
        while not list(cells.glob("*.json")) and time.monotonic() < until:
            time.sleep(0.05)
        begun.send_signal(signal.SIGKILL)
    kept = {file: file.stat().st_mtime_ns for file in cells.glob("fomaml-*.json")}
    assert kept
    done = subprocess.run(line, capture_output=True, check=True)
    rows = json.loads(done.stdout)["rows"]
    assert rows[0]["seeds"] == [0, 1, 2, 3, 4, 5]
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
