"""Versions of a task store: built by one process at a time, published in one step.

A store is a folder, and each version a folder in it with the files it wrote; files that did not
change are those of older versions. `manifest.json` is the manifest of the present version. Does not
know what is in a file.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pydantic import JsonValue

from metarec_ray import __version__
from metarec_ray.atomic import lock, sync
from metarec_ray.data.files.hashes import sha256_json
from metarec_ray.data.files.parquet import write_table
from metarec_ray.data.store.manifest import (
    MANIFEST,
    UNFINISHED,
    FileEntry,
    Manifest,
    load,
    save,
    version_name,
)
from metarec_ray.errors import DataError

BUILDING, CACHE, LOCK, FILES = ".building", ".cache", ".lock", "version"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_VERSION = re.compile(r"v(\d{6,})")


class Staging(NamedTuple):
    """The folders in which the next version of a store is built.

    Attributes:
        store: of the store.
        scratch: of temporary files; a build that was killed is resumed from them.
        files: of the files of the version.
        version: its number.

    """

    store: Path
    scratch: Path
    files: Path
    version: int

    def entry(self, name: str, *, rows: int, sha256: str) -> FileEntry:
        """Return the manifest's entry of a file of the version."""
        place = f"{version_name(self.version)}/{name}"
        return FileEntry(rows=rows, sha256=sha256, path=place)

    def write_table(self, name: str, table: pa.Table) -> FileEntry:
        """Write a table as a file of the version; return its entry."""
        sha256 = write_table(table, self.files / name)
        return self.entry(name, rows=table.num_rows, sha256=sha256)


@contextmanager
def building(store: Path, key: JsonValue) -> Iterator[Staging]:
    """Lock a store and give the folders of its next version, until the block ends.

    A build of the same `key` (JSON) that was killed has left its files there. A `DataError` in the
    block removes what was built, and the store if it is new.

    Raises:
        DataError: another process is writing the store, or the folder has other files.

    """
    if _holds_other_files(store):
        raise DataError(f"a task store must not replace other files, {store} holds some")
    store.mkdir(parents=True, exist_ok=True)
    with _locked(store):
        # A folder for each key: units of a killed build may still run, and write to theirs.
        scratch = store / BUILDING / sha256_json([key, last(store), _boot(), __version__])[:16]
        _discard(store, but=scratch)
        (scratch / FILES).mkdir(parents=True, exist_ok=True)
        try:
            yield Staging(store, scratch, scratch / FILES, last(store) + 1)
        except DataError:
            _discard(store)
            raise
        finally:
            if not scratch.exists() and not last(store):
                _clear(store)


def publish(staging: Staging, manifest: Manifest, *, keep: int) -> None:
    """Make the version the present one, in one step; keep `keep` versions, remove older ones.

    Raises:
        DataError: another process has published meanwhile.

    """
    save(staging.files, manifest)
    sync(staging.files)
    named = staging.store / version_name(staging.version)
    try:
        staging.files.rename(named)
    except OSError as error:
        if not named.exists():  # the disk refuses
            raise
        raise overtaken(staging.store, staging.version) from error
    sync(staging.store)
    save(staging.store, manifest)
    sync(staging.store)
    _discard(staging.store)
    _prune(staging.store, keep=keep)


def overtaken(store: Path, version: int) -> DataError:
    """Return the error to raise if another process has published that version meanwhile."""
    return DataError(
        f"a store must be written by one process at a time, another one has published version "
        f"{version} meanwhile ({store})"
    )


def complete(store: Path) -> None:
    """Make the newest version the present one, if a process was killed just before that step."""
    if _is_announced(store):
        return
    with _locked(store):
        if not _is_announced(store):
            save(store, load(store, last(store)))


def versions(store: Path) -> list[int]:
    """Return the numbers of the versions that can be read, ascending."""
    found = (_VERSION.fullmatch(path.parent.name) for path in store.glob(f"v*/{MANIFEST}"))
    return sorted(int(match[1]) for match in found if match)


def last(store: Path) -> int:
    """Return the number of the newest version; 0 for none."""
    return max(versions(store), default=0)


def prune(store: Path, *, keep: int) -> list[int]:
    """Remove all versions but the newest `keep` and return their numbers; shared files stay.

    Raises:
        DataError: another process is writing the store.

    """
    with _locked(store):
        return _prune(store, keep=keep)


def _prune(store: Path, *, keep: int) -> list[int]:
    found = versions(store)
    gone, kept = found[: max(0, len(found) - keep)], found[-keep:]
    readable = _readable(store, kept)
    needed = {entry.path for manifest in readable for entry in manifest.files.values()}
    needed |= {f"{version_name(version)}/{MANIFEST}" for version in kept}
    for folder in (path for path in store.iterdir() if _VERSION.fullmatch(path.name)):
        # The manifest first: what is half removed is no version that can be asked for.
        for path in sorted(folder.iterdir(), key=lambda path: path.name != MANIFEST):
            if f"{folder.name}/{path.name}" not in needed:
                path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    cached = {manifest.key() for manifest in readable}
    for folder in (store / CACHE).glob("*"):
        if folder.name not in cached:
            shutil.rmtree(folder, ignore_errors=True)
    return gone


def _discard(store: Path, *, but: Path | None = None) -> None:
    """Remove what was built, except the folder `but`.

    Each folder is renamed first: a kill must not leave half of it under a name that is resumed.
    """
    for path in list((store / BUILDING).glob("*")):
        if path != but:
            gone = Path(tempfile.mkdtemp(dir=store / BUILDING))
            path.rename(gone / path.name)
            shutil.rmtree(gone, ignore_errors=True)
    if but is None:
        shutil.rmtree(store / BUILDING, ignore_errors=True)


def _is_announced(store: Path) -> bool:
    """Return whether the newest version is the present one."""
    newest = last(store)
    return not newest or ((store / MANIFEST).is_file() and load(store).version >= newest)


def _readable(store: Path, numbers: list[int]) -> list[Manifest]:
    """Return the manifests of these versions, without those that cannot be read."""
    found = []
    for number in numbers:
        with suppress(DataError):
            found.append(load(store, number))
    return found


@contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Hold the lock of a store; the system releases it if the process dies."""
    with (store / LOCK).open("w", encoding="utf-8") as stream:
        try:
            lock(
                stream, wait=False
            )  # without locks, only one rename to the version's number succeeds
        except BlockingIOError as error:
            raise DataError(
                f"a store must be written by one process at a time, another one is writing {store}"
            ) from error
        yield


def _holds_other_files(store: Path) -> bool:
    if not store.exists():
        return False
    if not store.is_dir():
        return True
    own = (MANIFEST, UNFINISHED, BUILDING, CACHE, LOCK)
    return any(p.name not in own and not _VERSION.fullmatch(p.name) for p in store.iterdir())


def _boot() -> str:
    """Return the id of this boot: files that were not synced may be damaged after another one."""
    return _BOOT.read_text("utf-8") if _BOOT.exists() else ""


def _clear(store: Path) -> None:
    """Remove the folder of a store without a version."""
    (store / LOCK).unlink()
    store.rmdir()
