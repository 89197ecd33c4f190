"""A folder and its objects: equal after every call, whoever wrote, whatever failed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_ray import checkpoint as checkpoints
from metarec_ray.errors import ConfigError, MachineError, RunFailed
from metarec_ray.storage import lease as leases
from metarec_ray.storage.changes import Mark, changes
from metarec_ray.storage.objects import Info
from metarec_ray.storage.uris import place
from metarec_ray.storage.working_copy import WorkingCopy
from tests.unit.storage.memory import MemoryObjects, silent

URI = "s3://bucket/run"


@contextmanager
def machine(home: Path) -> Iterator[None]:
    """Be another machine: with a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("METAREC_CACHE", raising=False)
        patch.setenv("METAREC_HOME", str(home))
        yield


def copy_of(objects: MemoryObjects) -> WorkingCopy:
    return WorkingCopy(URI, objects=objects)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def put(copy: WorkingCopy, name: str, text: str) -> None:
    path = copy.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_what_one_machine_writes_another_reads(tmp_path: Path) -> None:
    objects = MemoryObjects()
    with machine(tmp_path / "a"):
        own = copy_of(objects)
        own.take()
        put(own, "metrics.jsonl", "1")
        put(own, "store/v000001/a", "x")
        put(own, "store/.cache/a", "cached")
        put(own, ".writer", "locked")
        own.keep()
    assert set(objects.shared()) == {"metrics.jsonl", "store/v000001/a"}
    with machine(tmp_path / "b"):
        other = copy_of(objects)
        assert files(other.read()) == {"metrics.jsonl": b"1", "store/v000001/a": b"x"}


def test_a_joined_machine_writes_and_the_first_one_sees(tmp_path: Path) -> None:
    objects = MemoryObjects()
    with machine(tmp_path / "a"):
        own = copy_of(objects)
        own.take()
    with machine(tmp_path / "b"):
        other = WorkingCopy(URI, lease=own.lease, objects=objects)
        other.join()
        put(other, "checkpoints/step-1/x", "1")
        other.keep()
    own.keep()
    assert files(own.folder) == {"checkpoints/step-1/x": b"1"}
    (other.folder / "checkpoints/step-1/x").unlink()
    other.keep()
    own.keep()
    assert files(own.folder) == {}
    assert not (own.folder / "checkpoints").exists()


def test_a_second_writer_is_refused_until_the_first_has_ended_or_is_silent(tmp_path: Path) -> None:
    objects = MemoryObjects()
    with machine(tmp_path / "a"):
        first = copy_of(objects)
        first.take()
    with machine(tmp_path / "b"):
        second = copy_of(objects)
        with pytest.raises(ConfigError, match=r"one process at a time, s3://bucket/run is by proc"):
            second.take()
        objects.clock += int(leases.EXPIRES_S * 1e9) + 1
        second.take()
        put(second, "metrics.jsonl", "of the second")
        second.keep()
    put(first, "metrics.jsonl", "of the first, which was thought dead")
    with pytest.raises(RunFailed, match="was taken by process"):
        first.keep()
    assert objects.shared() == {"metrics.jsonl": b"of the second"}
    leases.beat(objects, str(second.lease), ended=True)
    with machine(tmp_path / "a"):
        again = copy_of(objects)
        again.take()
    assert files(again.folder) == {"metrics.jsonl": b"of the second"}


def test_what_a_killed_process_left_is_brought_if_nobody_wrote_since(tmp_path: Path) -> None:
    objects = MemoryObjects()
    with machine(tmp_path / "a"):
        killed = copy_of(objects)
        killed.take()
        put(killed, "metrics.jsonl", "not there yet")
        again = copy_of(objects)
        again.take()  # at once: the process of this machine has ended
    assert objects.shared() == {"metrics.jsonl": b"not there yet"}


def test_who_has_only_read_or_joined_cannot_take_over_a_living_writer(tmp_path: Path) -> None:
    objects = MemoryObjects()
    with machine(tmp_path / "a"):
        own = copy_of(objects)
        own.take()
        put(own, "a", "1")
        own.keep()
    with machine(tmp_path / "b"):
        copy_of(objects).read()
        WorkingCopy(URI, lease=own.lease, objects=objects).join()
        with pytest.raises(ConfigError, match="one process at a time"):
            copy_of(objects).take()


def test_a_second_look_brings_only_what_is_new(tmp_path: Path) -> None:
    objects = MemoryObjects()
    with machine(tmp_path / "a"):
        own = copy_of(objects)
        own.take()
        put(own, "a", "1")
        put(own, "b", "1")
        own.keep()
    with machine(tmp_path / "b"):
        copy_of(objects).read()
        put(own, "b", "22")
        own.keep()
        objects.calls.clear()
        assert files(copy_of(objects).read()) == {"a": b"1", "b": b"22"}
        assert [name for call, name in objects.calls if call == "read"] == [".writer", "b"]


def test_what_another_machine_wrote_since_is_read_not_what_was_left_here(tmp_path: Path) -> None:
    objects = MemoryObjects()
    with machine(tmp_path / "a"):
        killed = copy_of(objects)
        killed.take()
        put(killed, "metrics.jsonl", "left here")
    with machine(tmp_path / "b"):
        objects.clock += int(leases.EXPIRES_S * 1e9) + 1
        other = copy_of(objects)
        other.take()
        put(other, "metrics.jsonl", "went on")
        other.keep()
    with machine(tmp_path / "a"):
        assert files(copy_of(objects).read()) == {"metrics.jsonl": b"went on"}


def saved(folder: Path, text: str) -> None:
    """Save a checkpoint as it is laid out: a file, its manifest, the mark."""
    for name in ("model", "manifest.json", "COMMITTED"):
        path = folder / "checkpoints" / f"step-{text}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def whole(names: set[str], text: str) -> bool:
    return {
        f"checkpoints/step-{text}/{n}" for n in ("model", "manifest.json", "COMMITTED")
    } <= names


def test_a_reader_sees_old_or_new_wherever_the_store_fails(tmp_path: Path) -> None:
    for n in range(40):
        objects = MemoryObjects()
        with machine(tmp_path / f"{n}"):
            own = copy_of(objects)
            own.take()
            saved(own.folder, "1")
            put(own, "store/v000001/bucket", "old")
            put(own, "store/manifest.json", "old")
            own.keep()
            saved(own.folder, "2")
            for path in (own.folder / "checkpoints/step-1").iterdir():
                path.unlink()
            put(own, "store/v000002/bucket", "new")
            put(own, "store/manifest.json", "new")
            left = [n]

            def fail(call: str, name: str, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] < 0:
                    silent(call, name)

            objects.before = fail
            try:
                own.keep()
                ended = True
            except MachineError:
                ended = False
            names = set(objects.shared())
            marked = {name for name in names if name.endswith("COMMITTED")}
            assert marked
            assert all(whole(names, name.split("-")[1][0]) for name in marked)
            version = {b"old": "1", b"new": "2"}[objects.shared()["store/manifest.json"]]
            assert f"store/v00000{version}/bucket" in names
            objects.before = lambda call, name: None
            own.keep()
            assert objects.shared() == files(own.folder)
        if ended:
            return
    raise AssertionError("it must end")


def test_a_real_checkpoint_comes_whole_or_is_not_there(tmp_path: Path) -> None:
    """What is on its way is no checkpoint for whoever loads the newest."""
    objects = MemoryObjects()
    with machine(tmp_path / "a"):
        own = copy_of(objects)
        own.take()
        saved(own.folder, "00000001")
        order: list[str] = []
        objects.before = lambda call, name: order.append(name) if call == "write" else None
        own.keep()
    assert [name.rpartition("/")[2] for name in order if "step" in name][-1] == "COMMITTED"
    with machine(tmp_path / "b"):
        del objects.held["checkpoints/step-00000001/COMMITTED"]
        folder = copy_of(objects).read()
        assert checkpoints.committed(folder / "checkpoints") == []


def test_reading_beside_a_writer_leaves_what_it_has_written(tmp_path: Path) -> None:
    objects = MemoryObjects()
    with machine(tmp_path / "a"):
        own = copy_of(objects)
        own.take()
        put(own, "metrics.jsonl", "new here")
        assert files(copy_of(objects).read()) == {"metrics.jsonl": b"new here"}
        assert objects.shared() == {}
        own.keep()
    assert objects.shared() == {"metrics.jsonl": b"new here"}


NAMES = ("a", "b/c", "b/COMMITTED", "store/manifest.json")
EDIT = st.tuples(st.sampled_from(NAMES), st.sampled_from(("one", "two", None)))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(EDIT, max_size=3)), max_size=6))
def test_turns_of_two_machines_end_in_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[bool, list[tuple[str, str | None]]]]
) -> None:
    objects, expected = MemoryObjects(), dict[str, bytes]()
    homes = [tmp_path_factory.mktemp("home") for _ in range(2)]
    for on_second, edits in turns:
        with machine(homes[on_second]):
            own = copy_of(objects)
            own.take()
            assert files(own.folder) == expected
            for name, text in edits:
                if text is None:
                    (own.folder / name).unlink(missing_ok=True)
                    expected.pop(name, None)
                else:
                    put(own, name, text)
                    expected[name] = text.encode()
            own.keep()
            leases.beat(objects, str(own.lease), ended=True)
        assert objects.shared() == expected


def test_changes_of_every_kind() -> None:
    one, two = Info(1, 1), Info(2, 2)
    here = {"same": one, "edited": two, "new": one, "gone there": one, "both": two}
    there = {"same": one, "edited": one, "gone here": one, "both": two, "new there": one}
    marks = {name: Mark(one, one) for name in ("same", "edited", "gone there", "gone here", "both")}
    found = changes(here, there, marks)
    assert found.upload == ["both", "edited", "new"]
    assert found.download == ["new there"]
    assert found.remove_there == ["gone here"]
    assert found.remove_here == ["gone there"]


def test_two_names_of_one_folder_have_one_place() -> None:
    home = {"METAREC_CACHE": "/cache"}
    names = ("s3://bucket/runs/a", "s3://bucket/runs//a/", "s3://bucket/runs/a?region=eu")
    assert len({place(name, home) for name in names}) == 1
    assert place("s3://bucket/runs/b", home) != place("s3://other/runs/b", home)
