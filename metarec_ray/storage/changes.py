"""What has changed between a folder and the objects that it is a copy of, since both were equal.

Knows names, sizes and times; moves nothing.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from metarec_ray.committed_files import COMMITTED, MANIFEST
from metarec_ray.storage.objects import Info

Infos = Mapping[str, Info]


class Mark(NamedTuple):
    """A file and an object as they were when their bytes were equal."""

    here: Info
    there: Info


class Changes(NamedTuple):
    """Names of what is to be done, so that a folder and its objects are equal again."""

    upload: list[str]
    download: list[str]
    remove_there: list[str]
    remove_here: list[str]


def is_shared(name: str) -> bool:
    """Return whether a file of a run's folder also lies in the object store.

    Not what begins with a dot (locks, caches, what is half written), nor what Ray keeps there by
    itself and nobody reads.

    >>> [is_shared(name) for name in ("store/v1/a", "store/.cache/a", "ray/a", "sweep/t/result")]
    [True, False, False, True]
    """
    parts = name.split("/")
    if any(part.startswith(".") for part in parts) or parts[0] == "ray":
        return False
    return not (parts[0] == "sweep" and len(parts) > 3 and parts[2].startswith("checkpoint_"))


def scan(folder: Path) -> dict[str, Info]:
    """Return the files of a folder that are shared, by their names with `/`."""
    found: dict[str, Info] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            if is_shared(relative) and (info := info_of(path)) is not None:
                found[relative] = info
    return found


def info_of(path: Path) -> Info | None:
    """Return a file's size and when it was written; None if it has gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Info(found.st_size, found.st_mtime_ns)


def changes(here: Infos, there: Infos, marks: Mapping[str, Mark]) -> Changes:
    """Return what is to be done; where both sides have changed, the folder is right."""
    found = Changes([], [], [], [])
    for name in sorted({*here, *there, *marks}):
        own, other, mark = here.get(name), there.get(name), marks.get(name)
        if own != (mark and mark.here):
            if own is not None:
                found.upload.append(name)
            elif other is not None:
                found.remove_there.append(name)
        elif other != (mark and mark.there):
            (found.download if other is not None else found.remove_here).append(name)
    return found


def in_order(names: Iterable[str]) -> Iterator[list[str]]:
    """Yield names in groups, one to be written after the other.

    What says that others are whole comes after them: what commits a checkpoint, then the manifest
    that announces a version of a store.

    >>> list(in_order(["store/manifest.json", "c/COMMITTED", "c/manifest.json", "store/v1/a"]))
    [['c/manifest.json', 'store/v1/a'], ['c/COMMITTED'], ['store/manifest.json']]
    """
    names = list(names)
    for rank in range(3):
        group = [name for name in names if _rank(name) == rank]
        if group:
            yield group


def _rank(name: str) -> int:
    folder, _, last = name.rpartition("/")
    if last == MANIFEST and folder.rpartition("/")[2] in ("", "store"):
        return 2
    return int(last == COMMITTED)
