"""Versions of a store: one writer, one step, older ones as long as they are wanted."""

import errno
import fcntl
import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from metarec_ray.data.files.hashes import sha256_file
from metarec_ray.data.store import versions
from metarec_ray.data.store.manifest import SCHEMA_VERSION, FileEntry, Manifest, load, verify
from metarec_ray.data.store.versions import Staging, building, complete, prune, publish
from metarec_ray.errors import DataError
from tests.unit.failing_disk import FAULTS, NOTHING, Killed, failing


def written(staging: Staging, like: Manifest, content: str, **older: FileEntry) -> Manifest:
    """Write one file and return the manifest of a version that holds it, and older ones."""
    path = staging.files / "new.txt"
    path.write_text(content)
    entry = staging.entry("new.txt", rows=0, sha256=sha256_file(path))
    return like.model_copy(
        update={
            "version": staging.version,
            "files": {"new.txt": entry, **older},
            "tasks": len(content),
        }
    )


@pytest.fixture
def like(synthetic_store: Path) -> Manifest:
    return load(synthetic_store)


def published(store: Path, like: Manifest, content: str, *, keep: int = 9, **older) -> Manifest:
    with building(store, content) as staging:
        made = written(staging, like, content, **older)
        publish(staging, made, keep=keep)
    verify(store, load(store))
    return made


def names(store: Path) -> list[str]:
    return sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())


def test_a_version_is_published_beside_the_last_which_stays_readable(
    tmp_path: Path, like: Manifest
) -> None:
    store = tmp_path / "store"
    first, second = (published(store, like, content) for content in ("a", "bb"))
    assert (first.version, second.version) == (1, 2)
    assert load(store) == second
    assert load(store, 1) == first
    verify(store, first)
    assert versions.versions(store) == [1, 2]


def test_old_versions_go_and_files_that_are_still_needed_stay(
    tmp_path: Path, like: Manifest
) -> None:
    store = tmp_path / "store"
    first = published(store, like, "a")
    second = published(store, like, "bb", old=first.files["new.txt"])
    third = published(store, like, "ccc", old=first.files["new.txt"])
    assert prune(store, keep=1) == [1, 2]
    assert names(store) == [
        ".lock", "manifest.json", "v000001/new.txt", "v000003/manifest.json", "v000003/new.txt",
    ]  # fmt: skip
    verify(store, third)
    with pytest.raises(DataError, match=r"none can be read at .*v000002"):
        load(store, second.version)
    last = published(store, like, "dddd", keep=1)
    assert last.version == 4
    assert names(store) == [
        ".lock", "manifest.json", "v000004/manifest.json", "v000004/new.txt",
    ]  # fmt: skip


def test_a_store_has_one_writer_at_a_time(tmp_path: Path, like: Manifest) -> None:
    store = tmp_path / "store"
    with building(store, "a") as staging:
        with (
            pytest.raises(
                DataError, match=r"one process at a time, another one is writing .*store"
            ),
            building(store, "a"),
        ):
            pass
        publish(staging, written(staging, like, "a"), keep=1)
    assert load(store).tasks == 1


def test_a_writer_that_was_overtaken_publishes_nothing(tmp_path: Path, like: Manifest) -> None:
    # On a file system without locks two may build; one of them is the first to name the version.
    store = tmp_path / "store"
    with building(store, "a") as staging:
        made = written(staging, like, "a")
        other = store / "v000001"
        other.mkdir()
        (other / "manifest.json").write_text("theirs")
        with pytest.raises(DataError, match="another one has published version 1 meanwhile"):
            publish(staging, made, keep=1)
        assert not (store / "manifest.json").exists()
        assert (other / "manifest.json").read_text() == "theirs"


def test_what_was_built_is_found_again_for_the_same_input_only(
    tmp_path: Path, like: Manifest
) -> None:
    store = tmp_path / "store"

    def interrupted(key: str) -> list[str]:
        """Return what an earlier build has left."""
        found = ["none was handed out"]
        with suppress(KeyboardInterrupt), building(store, key) as staging:
            found = [path.read_text() for path in staging.files.iterdir()]
            (staging.files / "half").write_text(key)
            raise KeyboardInterrupt
        return found

    assert [interrupted(key) for key in ("a", "a", "b")] == [[], ["a"], []]
    published(store, like, "b")
    assert not (store / ".building").exists()


def test_a_log_that_is_refused_leaves_nothing_behind(tmp_path: Path, like: Manifest) -> None:
    store = tmp_path / "store"

    def refused() -> None:
        with pytest.raises(DataError, match="bad"), building(store, "a"):
            raise DataError("bad")

    refused()
    assert list(tmp_path.iterdir()) == []
    first = published(store, like, "a")
    refused()
    assert load(store) == first
    assert not (store / ".building").exists()


def test_a_publication_that_was_cut_short_is_completed(tmp_path: Path, like: Manifest) -> None:
    store = tmp_path / "store"
    published(store, like, "a")
    old = (store / "manifest.json").read_bytes()
    second = published(store, like, "bb")
    (store / "manifest.json").write_bytes(old)  # killed between the version and its announcement
    complete(store)
    assert load(store) == second
    (store / "manifest.json").unlink()
    complete(store)
    assert load(store) == second


@pytest.mark.parametrize("kind", FAULTS)
def test_a_writer_that_fails_at_any_call_leaves_the_old_version_or_the_new(
    tmp_path: Path, like: Manifest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    base, seen = tmp_path / "base", set()
    before = [published(base, like, content, keep=2) for content in ("0", "00")][1]
    shutil.copytree(base, tmp_path / "count")
    with failing(monkeypatch, -1, NOTHING) as disk:
        published(tmp_path / "count", like, "new", keep=2)
    for at in range(disk.calls):
        store = tmp_path / f"store-{at}"
        shutil.copytree(base, store)
        with suppress(OSError, DataError, Killed), failing(monkeypatch, at, FAULTS[kind]):
            published(store, like, "new", keep=2)
        found = load(store)
        verify(store, found)
        assert found == before or found.tasks == len("new")
        seen.add(found == before)
        for number in versions.versions(store):  # every one that can be asked for is whole
            verify(store, load(store, number))
        complete(store)
        verify(store, load(store))
        assert published(store, like, "last", keep=1).tasks == len("last")
        assert len(versions.versions(store)) == 1
    assert seen == {True, False}


def test_a_disk_that_refuses_is_not_said_to_be_another_writer(
    tmp_path: Path, like: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"

    def full(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    with building(store, "a") as staging:
        made = written(staging, like, "a")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", full)
            with pytest.raises(OSError, match="No space left"):
                publish(staging, made, keep=1)
        publish(staging, made, keep=1)  # once there is room
    assert load(store) == made


def test_versions_are_not_removed_while_one_is_written(tmp_path: Path, like: Manifest) -> None:
    # What is published between the look at versions and the removal would go with the old ones.
    store = tmp_path / "store"
    published(store, like, "a")
    with (
        building(store, "b") as staging,
        pytest.raises(DataError, match="another one is writing"),
    ):
        prune(store, keep=1)
    second = published(store, like, "b")
    assert staging.version == second.version == 2


def test_a_build_that_goes_on_somewhere_does_not_reach_another_one(
    tmp_path: Path, like: Manifest
) -> None:
    store = tmp_path / "store"
    with suppress(KeyboardInterrupt), building(store, "a") as staging:
        raise KeyboardInterrupt
    with building(store, "b") as other:
        with pytest.raises(FileNotFoundError):
            (staging.scratch / "scan-000000").write_text("of a")
        assert [path.name for path in other.scratch.iterdir()] == ["version"]
        publish(other, written(other, like, "b"), keep=1)


def test_an_announcement_that_was_cut_short_is_not_another_file(
    tmp_path: Path, like: Manifest
) -> None:
    store = tmp_path / "store"
    published(store, like, "a")
    (store / "manifest.tmp").write_text("{")  # killed while it was written
    assert published(store, like, "bb").version == 2


@pytest.mark.parametrize("kind", ["file", "folder with others"])
def test_other_files_are_not_replaced(tmp_path: Path, kind: str) -> None:
    store = tmp_path / "store"
    if kind == "file":
        store.write_text("thesis")
    else:
        store.mkdir()
        (store / "thesis.tex").write_text("thesis")
    with pytest.raises(DataError, match="must not replace other files"), building(store, "a"):
        pass
    assert "thesis" in "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())


def test_a_file_system_without_locks_is_no_second_writer(
    tmp_path: Path, like: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(code: int) -> None:
        def flock(*_: object) -> None:
            raise OSError(code, "no locks")

        monkeypatch.setattr(fcntl, "flock", flock)

    without(errno.ENOLCK)
    published(tmp_path / "store", like, "a")
    without(errno.EIO)
    with pytest.raises(OSError, match="no locks"):
        published(tmp_path / "store", like, "bb")


def test_a_store_of_an_older_schema_is_replaced(tmp_path: Path, like: Manifest) -> None:
    store = tmp_path / "store"
    published(store, like, "a")
    for path in store.rglob("manifest.json"):
        fields = json.loads(path.read_text())
        path.write_text(json.dumps(fields | {"schema_version": SCHEMA_VERSION - 1}))
    assert published(store, like, "bb", keep=2).version == 2
    assert prune(store, keep=1) == [1]
    assert names(store) == [
        ".lock", "manifest.json", "v000002/manifest.json", "v000002/new.txt",
    ]  # fmt: skip
