"""A copy that is kept: what is told when the store is silent, and what is left at the end."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from metarec_ray.errors import MachineError, RunFailed
from metarec_ray.storage import keeping
from metarec_ray.storage.keeping import Keeper, written
from metarec_ray.storage.working_copy import WorkingCopy
from metarec_ray.training.run_folder.fence import Fence
from tests.unit.storage.memory import MemoryObjects, silent


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkingCopy:
    monkeypatch.delenv("METAREC_CACHE", raising=False)
    monkeypatch.setenv("METAREC_HOME", str(tmp_path))
    found = WorkingCopy("s3://bucket/run", objects=MemoryObjects())
    found.take()
    return found


def held(copy: WorkingCopy) -> MemoryObjects:
    assert isinstance(copy.objects, MemoryObjects)
    return copy.objects


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_silent_store_is_told_once_and_again_when_it_answers(copy: WorkingCopy) -> None:
    told: list[str] = []
    with Keeper(copy, told.append, every_s=0.01):
        held(copy).before = silent
        (copy.folder / "metrics.jsonl").write_text("1")
        until(lambda: bool(told))
        time.sleep(0.1)
        held(copy).before = lambda call, name: None
        until(lambda: len(told) > 1)
    first, second = told
    assert first.startswith("storage: an object store must answer, s3://bucket/run does not")
    assert first.endswith(f"the run goes on, its files are in {copy.folder}")
    assert second == "storage: s3://bucket/run answers again"
    assert held(copy).shared() == {"metrics.jsonl": b"1"}


def test_what_cannot_be_brought_at_the_end_is_an_error_that_says_where_it_is(
    copy: WorkingCopy,
) -> None:
    keeper = Keeper(copy, lambda line: None, every_s=0.01)
    held(copy).before = silent
    with pytest.raises(RunFailed, match=r"what is not there yet is kept in .*, the same command"):
        keeper.finish(patience_s=0.05)


def test_the_error_of_a_run_is_told_not_that_of_its_store(copy: WorkingCopy) -> None:
    held(copy).before = silent
    with pytest.raises(ZeroDivisionError), Keeper(copy, lambda line: None, every_s=0.01):
        raise ZeroDivisionError


def test_a_keeper_whose_folder_was_taken_brings_nothing(copy: WorkingCopy) -> None:
    told: list[str] = []
    held(copy).write(".writer", b'{"id": "another", "who": "process 1 on b"}')
    (copy.folder / "metrics.jsonl").write_text("1")
    with pytest.raises(RunFailed, match="was taken by"), Keeper(copy, told.append, every_s=0.01):
        until(lambda: bool(told))
    assert held(copy).shared() == {}
    assert len(told) == 1


def test_a_writer_says_that_it_lives_and_that_it_has_ended(
    copy: WorkingCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = held(copy)
    monkeypatch.setattr(keeping, "WorkingCopy", lambda uri: WorkingCopy(uri, objects=objects))
    monkeypatch.setattr(keeping.leases, "BEAT_S", 0.01)
    with written("s3://bucket/run", lambda line: None, every_s=0.01) as own:
        assert keeping.leases.living(objects) is not None
        beaten = objects.clock
        until(lambda: objects.clock > beaten)
        (own.folder / "a").write_text("1")
    assert keeping.leases.living(objects) is None
    assert objects.shared() == {"a": b"1"}


def test_a_group_that_was_replaced_elsewhere_brings_nothing(copy: WorkingCopy) -> None:
    old = Fence(copy.folder, copy)
    copy.keep(allow=old.require_there)
    held(copy).write("generation", b"of a group on another machine")
    old.require()  # this machine has not heard of it
    (copy.folder / "metrics.jsonl").write_text("1")
    with pytest.raises(RunFailed, match="written by the group of workers that began last"):
        copy.keep(allow=old.require_there)
    assert "metrics.jsonl" not in held(copy).shared()
    held(copy).before = silent
    with pytest.raises(MachineError):
        old.require_there()
