"""Paths of an experiment: where they are looked for, and how a run's own files write them.

Knows the keys that are paths, of an experiment as a tree; does not know what lies there. What a run
writes is relative to the working folder, or to the configuration with `run.relative_to`. What it
reads is looked for beside the configuration, too.
"""

import copy
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from metarec_ray.config import tracking
from metarec_ray.data.datasets import by_name
from metarec_ray.data.log.sources import SYNTHETIC
from metarec_ray.errors import DataError

Tree = dict[str, Any]
Keys = Sequence[tuple[str, ...]]
NAMES = (SYNTHETIC, *by_name.NAMES)
"""Logs that have no path."""
OWN = (("run", "dir"), ("run", "store"), ("train", "init_from"), ("train", "teacher"))
LOG = ("data", "path")
TABLES = (("data", "users", "path"), ("data", "items", "path"))
ROWS = (
    ("data", "only", "path"),
    ("data", "without", "path"),
    ("evaluate", "item_kshot", "rows", "path"),
)
KEYS = (*OWN, LOG, *TABLES, *ROWS)
"""Every key that is a path."""
TRACKING = (("train", "mlflow"), ("sweep", "mlflow"), ("bench", "mlflow"))
"""Tracking URIs, which may hold one: what a run tells stays where it is when the run is moved."""


def beside(tree: Tree, folder: Path) -> Tree:
    """Return the tree of a configuration that lies in `folder` with its paths found.

    A log is taken beside its configuration if it is there, a side file beside its log or else
    there. What is found in neither place is left as it is: below the working folder.
    """
    tree = copy.deepcopy(tree)
    if tree["run"]["relative_to"] == "configuration":
        tree["run"]["relative_to"] = "working_folder"
        _replace(tree, OWN, lambda path: _joined(folder, path))
    if folder.resolve() == Path.cwd():
        return tree

    def found(path: str) -> str:
        there = _joined(folder, path)
        return there if _exists(there) else path

    if not _is_named(tree):
        _replace(tree, [LOG], found)
    log = _folder(tree)
    _replace(
        tree,
        (*TABLES, *ROWS),
        lambda path: path if log is not None and (log / path).is_file() else found(path),
    )
    return tree


def absolute(tree: Tree, folder: Path) -> Tree:
    """Return the tree with its paths from `folder` on made absolute; names and URIs stay.

    A side file that lies beside the log, or in the folder of data sets, is found there.
    """
    tree = copy.deepcopy(tree)
    keys = OWN if _is_named(tree) else (*OWN, LOG)
    _replace(tree, keys, lambda path: str((folder / path).resolve()))
    log = _folder(tree)

    def side(path: str) -> str:
        if (log is not None and (log / path).is_file()) or not (folder / path).is_file():
            return path
        return str((folder / path).resolve())

    _replace(tree, (*TABLES, *ROWS), side)
    for section, last in _sections(tree, TRACKING):
        if section.get(last) is not None:
            section[last] = tracking.absolute(section[last], str(folder))
    return tree


def relative(tree: Tree, folder: Path) -> Tree:
    """Return the tree as a configuration in `folder` says it, so that both can be moved together.

    What has no folder in common with it stays absolute.
    """
    tree = absolute(tree, Path.cwd())
    base = str(folder.resolve())

    def place(path: str) -> str:
        apart = not os.path.isabs(path) or os.path.commonpath([path, base]) == os.sep
        return path if apart else os.path.relpath(path, base)

    _replace(tree, KEYS, place)
    tree["run"]["relative_to"] = "configuration"
    return tree


def require(tree: Tree, path: Path) -> None:
    """Raise a DataError that says where it was looked if an input of the configuration is missing.

    `path` is the configuration's file.
    """
    found = missing(tree, path.expanduser().parent)
    if found is not None:
        key, file, looked = found
        where = " or ".join(map(str, looked))
        known = f", or one of {', '.join(NAMES)}" if key == "data.path" else ""
        raise DataError(
            f"{key} must be a file{' or a folder' * bool(known)} that exists{known}, got {file!r}"
            f"{f', which is not in {where}' * bool(looked)} ({path}: {key})"
        )


def missing(tree: Tree, folder: Path) -> tuple[str, str, list[Path]] | None:
    """Return the first input that is not there: its key, its path, the folders looked in.

    None if log and tables are there, or are not files of this machine.
    """
    here = list(dict.fromkeys([folder.resolve(), Path.cwd()]))
    path = tree["data"]["path"]
    if not _is_named(tree) and not _exists(path):
        return "data.path", path, [] if os.path.isabs(path) else here
    log = _folder(tree)
    if log is None:
        return None
    looked = list(dict.fromkeys([log.resolve(), *here]))
    for key, (section, last) in zip(TABLES, _sections(tree, TABLES), strict=True):
        path = section.get(last)
        if _is_local(path) and not (log / path).is_file() and not Path(path).is_file():
            return ".".join(key), path, [] if os.path.isabs(path) else looked
    return None


def _is_named(tree: Tree) -> bool:
    """Return whether the log is a data set's name, a table of a catalog, or a URI."""
    path = tree["data"]["path"]
    named = path in NAMES or tree["data"]["format"] == "iceberg"
    return named or "://" in path


def _folder(tree: Tree) -> Path | None:
    """Return the folder beside whose files side files lie; None if it is not of this machine."""
    if _is_named(tree):
        return None
    path = Path(_plain(tree["data"]["path"]))
    return path if path.is_dir() else path.parent


def _plain(path: str) -> str:
    """Return a path, or the part of a pattern before its first wild character's folder."""
    before = re.split(r"[*?\[]", path)[0]
    return path if before == path else os.path.dirname(before) or "."


def _exists(path: str) -> bool:
    return os.path.exists(path) or os.path.exists(_plain(path))


def _joined(folder: Path, path: str) -> str:
    joined = folder / path
    return str(joined.resolve() if ".." in joined.parts else joined)


def _replace(tree: Tree, keys: Keys, place: Callable[[str], str]) -> None:
    """Replace the local paths at `keys`."""
    for section, last in _sections(tree, keys):
        if _is_local(section.get(last)):
            section[last] = place(section[last])


def _is_local(path: Any) -> TypeGuard[str]:
    return isinstance(path, str) and "://" not in path and path != SYNTHETIC


def _sections(tree: Tree, keys: Keys) -> Iterator[tuple[Tree, str]]:
    for *sections, last in keys:
        found: Any = tree
        for section in sections:
            found = found.get(section) or {}
        yield found, last
