"""A file that is replaced is the old one or the new one, whatever fails, and nothing is left."""

import os
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from metarec_ray.atomic import append_line, replace, replace_text
from metarec_ray.training.run_folder import metrics_log
from metarec_ray.training.run_folder.fence import Fence
from metarec_ray.training.run_folder.metrics_log import Progress
from tests.unit.failing_disk import FAULTS, NOTHING, Killed, failing

OLD, NEW = "old: 1\n" * 1000, "new: 2\n" * 1000


def texts(folder: Path) -> set[str]:
    return {path.read_text("utf-8") for path in folder.iterdir() if path.suffix != ".tmp"}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_text_is_the_old_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path, seen = tmp_path / "best.yaml", set()
    with failing(monkeypatch, -1, NOTHING) as disk:
        replace_text(path, OLD)
    assert disk.calls >= 7  # mkdir, open, write, close, two syncs, a rename
    for at in range(disk.calls):
        replace_text(path, OLD)
        with suppress(OSError, Killed), failing(monkeypatch, at, FAULTS[kind]):
            replace_text(path, NEW)
        seen |= texts(tmp_path)
        left = [one for one in tmp_path.iterdir() if one != path]
        assert kind != "one error" or left == []
    assert seen == {OLD, NEW}
    replace_text(path, NEW)
    assert [one.read_text("utf-8") for one in tmp_path.iterdir()] == [NEW]


@pytest.mark.parametrize("kind", FAULTS)
def test_a_table_that_a_library_writes_is_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "results.parquet"
    old, new = pl.DataFrame({"a": [1] * 100}), pl.DataFrame({"a": [2] * 100})
    libraries = ((pl.DataFrame, "write_parquet", 1),)
    with failing(monkeypatch, -1, NOTHING, libraries) as disk:
        replace(path, lambda temporary: old.write_parquet(temporary))
    for at in range(disk.calls):
        with suppress(OSError, Killed), failing(monkeypatch, at, FAULTS[kind], libraries):
            replace(path, lambda temporary: new.write_parquet(temporary))
        assert pl.read_parquet(path)["a"].unique().item() in (1, 2)
    assert pl.read_parquet(path)["a"].unique().item() == 2


@pytest.mark.parametrize("kind", FAULTS)
def test_lines_that_are_forgotten_are_all_there_or_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path, seen = tmp_path / metrics_log.NAME, set()
    for at in range(40):
        path.unlink(missing_ok=True)
        for step in range(1, 6):
            metrics_log.append(path, Progress(step, 9, 1.0, "query_ndcg@10", 0.5, 1.0, 0.1))
        with suppress(OSError, Killed), failing(monkeypatch, at, FAULTS[kind]):
            metrics_log.forget_after(path, 3)
        seen.add(len(list(metrics_log.read(path))))
    assert seen == {5, 3}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_group_that_could_not_take_a_run_leaves_it_to_the_one_before_or_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "generation"
    for at in range(20):
        before = Fence(tmp_path)
        with suppress(OSError, Killed), failing(monkeypatch, at, FAULTS[kind]):
            Fence(tmp_path)
        text = path.read_text("utf-8")
        assert len(text) == len(before.own)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_line_that_was_cut_short_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "events.jsonl"
    for at in range(5):
        path.unlink(missing_ok=True)
        append_line(path, '"first"')
        with suppress(OSError, Killed), failing(monkeypatch, at, FAULTS[kind]):
            append_line(path, '"torn"')
        append_line(path, '"last"')
        lines = path.read_text("utf-8").splitlines()
        assert lines[0] == '"first"'
        assert lines[-1] == '"last"'
        assert len(lines) in (2, 3)


def test_two_that_write_one_file_leave_one_of_them_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "generation"

    def another_writes_meanwhile(temporary: Path) -> None:
        temporary.write_text(OLD, "utf-8")
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            replace_text(path, NEW)

    replace(path, another_writes_meanwhile)
    assert texts(tmp_path) == {OLD}
    assert [one.name for one in tmp_path.iterdir()] == ["generation"]
