"""Find and open files by local path, URI or pattern.

Does not know what is in them.
"""

import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import pyarrow as pa
from pyarrow import fs

from metarec_ray.data.files import file_systems
from metarec_ray.data.files.hashes import sha256_file
from metarec_ray.errors import DataError

_WILD, _REMOTELY_WILD = (
    re.compile(r"[*?\[]"),
    re.compile(r"[*\[]"),
)  # `?` starts the options of a URI
_GLOB = re.compile(r"[*?\[\]]")  # what polars reads as a pattern
_PARTITION = re.compile(r"([^/=]+)=([^/]*)/")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


class File(NamedTuple):
    """A file of a log.

    Attributes:
        path: a local path or a URI.
        name: relative to the folder of the log.
        partitions: partition columns in the names of its folders, `day=1/a.csv`, and their value;
            None for the mark that Hive and Spark write for a missing one.

    """

    path: str
    name: str
    partitions: dict[str, str | None]


def is_remote(path: str) -> bool:
    """Return whether a path is a URI.

    >>> is_remote("s3://bucket/log"), is_remote("log.csv")
    (True, False)
    """
    return "://" in path


def split(path: str) -> tuple[str, str]:
    """Return a path without the options of its URI, and the options with their `?`.

    >>> split("s3://bucket/log?region=eu"), split("what?.csv")
    (('s3://bucket/log', '?region=eu'), ('what?.csv', ''))
    """
    plain, mark, options = path.partition("?") if is_remote(path) else (path, "", "")
    return plain, mark + options


def folder(path: str) -> str:
    """Return the folder below which to look for files: of a pattern, the part before its first `*`.

    >>> folder("s3://bucket/log/day=*/part-1.csv"), folder("log")
    ('s3://bucket/log', 'log')
    """
    plain, options = split(path)
    found = _wild(path)
    before = plain if found is None else plain[: found.start()].rpartition("/")[0] or "."
    if is_remote(path) and not is_remote(before):
        raise DataError(f"a pattern must begin after the name of the bucket, got {path}")
    return before + options


def parent(path: str) -> str:
    """Return the folder of a file, with the options of a URI.

    >>> parent("s3://bucket/log/a.csv?region=eu"), parent("a.csv")
    ('s3://bucket/log?region=eu', '.')
    """
    plain, options = split(path)
    return (plain.rpartition("/")[0] or ".") + options


def find(path: str, suffixes: tuple[str, ...]) -> list[File]:
    """Return the file at a path, or the files of a pattern or a folder, sorted by name.

    Files of a pattern or folder must end with one of `suffixes` and not be hidden: no part of their
    name begins with `.` or `_`.
    """
    if is_file(path):
        return [File(path, split(path)[0].rpartition("/")[2], {})]
    base, options = split(folder(path))
    system, inside = _system(folder(path))
    inside = inside.rstrip("/")
    try:
        infos = system.get_file_info(fs.FileSelector(inside, recursive=True))
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"a folder must be readable, {base} is not: {file_systems.reason(error)}"
        ) from error
    names = (i.path.removeprefix(inside).lstrip("/") for i in infos if i.type == fs.FileType.File)
    pattern = _pattern(path, base)
    matched = [name for name in names if _is_wanted(name, pattern, suffixes)]
    return [
        File(_joined(base, name) + options, name, _partitions(name)) for name in sorted(matched)
    ]


def is_file(path: str) -> bool:
    """Return whether there is a file at a path."""
    return not (is_remote(path) and _wild(path)) and _info(path).type == fs.FileType.File


def exists(path: str) -> bool:
    """Return whether a path is a file or a folder; of a pattern, whether its folder exists."""
    return _info(folder(path)).type != fs.FileType.NotFound


def size(path: str) -> int:
    """Return the size of a file in bytes; 0 if there is none."""
    return _info(path).size or 0


def stamp(path: str) -> str:
    """Return what changes when a file changes: the hash of its content.

    For a remote file its entity tag; if it has none, its size and time, which object stores give in
    whole seconds.
    """
    if not is_remote(path):
        return sha256_file(Path(path))
    try:
        with opened(path) as stream:
            tag = file_systems.tag(stream.metadata())
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"an input file must be readable, {path} is not: {file_systems.reason(error)}"
        ) from error
    found = _info(path)
    return tag or f"{found.size} {found.mtime_ns}"


@contextmanager
def opened(path: str) -> Iterator[pa.NativeFile]:
    """Open a file for reading."""
    system, inside = _system(path)
    with system.open_input_file(inside) as stream:
        yield stream


@contextmanager
def local(path: str) -> Iterator[Path]:
    """Give a local file of the same content whose name has no pattern, until the block ends."""
    if not is_remote(path) and not _GLOB.search(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as place:
        name = Path(place) / _GLOB.sub("_", split(path)[0].rpartition("/")[2])
        if is_remote(path):
            with opened(path) as stream, name.open("wb") as target:
                shutil.copyfileobj(stream, target)
        else:
            name.symlink_to(Path(path).absolute())
        yield name


def identity(path: str) -> str:
    """Return the normal form of a path: two names of one file give the same.

    >>> identity("file:///log//./a%20b.csv"), identity("s3://bucket/log/a.csv?region=eu")
    ('/log/a b.csv', 's3://bucket/log/a.csv')
    """
    if not is_remote(path):
        return os.path.normpath(Path(path).expanduser().absolute())
    scheme, _, inside = split(path)[0].partition("://")
    inside = posixpath.normpath(unquote(inside))
    return inside if scheme == "file" else f"{scheme}://{inside}"


def inside(folder: str, name: str) -> str:
    """Return the path of a name in a folder, with the options of a URI.

    >>> inside("s3://bucket/log/?region=eu", "items.csv")
    's3://bucket/log/items.csv?region=eu'
    """
    base, options = split(folder)
    return f"{base.rstrip('/')}/{name}{options}"


def name(path: str, folder: str) -> str:
    """Return the name of a file relative to a folder; if it is elsewhere, its last part.

    >>> name("s3://bucket/log/day=1/a.csv?region=eu", "s3://bucket/log/?region=eu")
    'day=1/a.csv'
    """
    plain, base = split(path)[0], split(folder)[0].rstrip("/") + "/"
    return plain.removeprefix(base) if plain.startswith(base) else plain.rpartition("/")[2]


def _partitions(name: str) -> dict[str, str | None]:
    """Return the columns and values that folders name; Hive and Spark escape them as in a URI.

    >>> _partitions("city=New%20York/day=__HIVE_DEFAULT_PARTITION__/a.csv")
    {'city': 'New York', 'day': None}
    """
    found: dict[str, str | None] = {}
    for column, value in _PARTITION.findall(name):
        column = _decoded(column)
        if column in found:
            raise DataError(f"a folder must name a column once, {name} names {column!r} twice")
        found[column] = None if value == _NO_VALUE else _decoded(value)
    return found


def _decoded(text: str) -> str:
    """Return a name without its escapes; as it is where these are no UTF-8."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def _wild(path: str) -> re.Match | None:
    """Return where the pattern in a path begins; a local path that exists is no pattern."""
    if not is_remote(path) and Path(path).exists():
        return None
    return (_REMOTELY_WILD if is_remote(path) else _WILD).search(split(path)[0])


def _joined(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{quote(name, safe='/=+,') if is_remote(base) else name}"


def _pattern(path: str, base: str) -> str | None:
    """Return the pattern of a path relative to its folder `base`; None if it has none."""
    if not _wild(path):
        return None
    pattern = split(path)[0].removeprefix(base.rstrip("/")).lstrip("/")
    return unquote(pattern) if is_remote(path) else pattern


def _is_wanted(name: str, pattern: str | None, suffixes: tuple[str, ...]) -> bool:
    if any(part.startswith((".", "_")) for part in name.split("/")):
        return False
    return (pattern is None or _fits(name, pattern)) and name.lower().endswith(suffixes)


def _fits(name: str, pattern: str) -> bool:
    """Return whether a name, or a folder above it, matches a pattern as in a shell."""
    if "**" in pattern:
        return fnmatchcase(name, pattern.replace("**/", "*"))
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) >= len(wanted) and all(map(fnmatchcase, parts, wanted))


def _info(path: str) -> fs.FileInfo:
    system, inside = _system(path)
    try:
        return system.get_file_info(inside)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"a file system must answer, {path} does not: {file_systems.reason(error)}"
        ) from error


def _system(path: str) -> tuple[fs.FileSystem, str]:
    if not is_remote(path):
        return fs.LocalFileSystem(), str(Path(path).absolute())
    return file_systems.at(*split(path))
