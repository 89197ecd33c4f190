"""Where files lie: local paths, and the file systems that Arrow knows by URI.

Knows how files are found and opened; does not know what is in them.
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

_WILD, _REMOTELY_WILD = re.compile(r"[*?\[]"), re.compile(r"[*\[]")  # `?` begins a URI's options
_GLOB = re.compile(r"[*?\[\]]")  # what polars takes for a pattern in a path
_PARTITION = re.compile(r"([^/=]+)=([^/]*)/")


class File(NamedTuple):
    """A file of a log.

    Attributes:
        path: a local path or a URI.
        name: relative to the folder of the log.
        partitions: what the names of its folders say of all its rows: `day=1/a.csv` is of day 1.

    """

    path: str
    name: str
    partitions: dict[str, str]


def is_remote(path: str) -> bool:
    """Return whether a path is a URI.

    >>> is_remote("s3://bucket/log"), is_remote("log.csv")
    (True, False)
    """
    return "://" in path


def folder(path: str) -> str:
    """Return the folder that holds the files: of a pattern, what stands before its first `*`.

    >>> folder("s3://bucket/log/day=*/part-1.csv"), folder("log")
    ('s3://bucket/log', 'log')
    """
    plain, options = _parts(path)
    found = _wild(path)
    before = plain if found is None else plain[: found.start()].rpartition("/")[0] or "."
    if is_remote(path) and not is_remote(before):
        raise DataError(f"a pattern must begin after the name of the bucket, got {path}")
    return before + options


def parent(path: str) -> str:
    """Return the folder of a file; the options of a URI stay.

    >>> parent("s3://bucket/log/a.csv?region=eu"), parent("a.csv")
    ('s3://bucket/log?region=eu', '.')
    """
    plain, options = _parts(path)
    return (plain.rpartition("/")[0] or ".") + options


def find(path: str, suffixes: tuple[str, ...]) -> list[File]:
    """Return the file at a path, or those of a pattern or below a folder, in the order of names.

    Of a pattern or a folder, files that end with one of `suffixes` and are not hidden: no part of
    their name begins with `.` or `_`.
    """
    if is_file(path):
        return [File(path, _parts(path)[0].rpartition("/")[2], {})]
    base, options = _parts(folder(path))
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
        File(_joined(base, name) + options, name, dict(_PARTITION.findall(name)))
        for name in sorted(matched)
    ]


def is_file(path: str) -> bool:
    """Return whether there is a file at a path."""
    return not (is_remote(path) and _wild(path)) and _info(path).type == fs.FileType.File


def exists(path: str) -> bool:
    """Return whether there is a file or a folder at a path, or something before its pattern."""
    return _info(folder(path)).type != fs.FileType.NotFound


def size(path: str) -> int:
    """Return the bytes of a file; 0 for none."""
    return _info(path).size or 0


def stamp(path: str) -> str:
    """Return what changes with a file: the hash of its content.

    Of a remote one the tag that its store gives to each content, where there is none size and time:
    object stores tell time in seconds.
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
    """Hand out a local file of the same content under a name that is no pattern, for the time."""
    if not is_remote(path) and not _GLOB.search(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as place:
        name = Path(place) / _GLOB.sub("_", _parts(path)[0].rpartition("/")[2])
        if is_remote(path):
            with opened(path) as stream, name.open("wb") as target:
                shutil.copyfileobj(stream, target)
        else:
            name.symlink_to(Path(path).absolute())
        yield name


def identity(path: str) -> str:
    """Return what two names of one file have in common.

    >>> identity("file:///log//./a%20b.csv"), identity("s3://bucket/log/a.csv?region=eu")
    ('/log/a b.csv', 's3://bucket/log/a.csv')
    """
    if not is_remote(path):
        return os.path.normpath(Path(path).expanduser().absolute())
    scheme, _, inside = _parts(path)[0].partition("://")
    inside = posixpath.normpath(unquote(inside))
    return inside if scheme == "file" else f"{scheme}://{inside}"


def inside(folder: str, name: str) -> str:
    """Return the path of what has that name in a folder; the options of a URI stay.

    >>> inside("s3://bucket/log/?region=eu", "items.csv")
    's3://bucket/log/items.csv?region=eu'
    """
    base, options = _parts(folder)
    return f"{base.rstrip('/')}/{name}{options}"


def name(path: str, folder: str) -> str:
    """Return the name of a file relative to a folder, of one elsewhere the last part.

    >>> name("s3://bucket/log/day=1/a.csv?region=eu", "s3://bucket/log/?region=eu")
    'day=1/a.csv'
    """
    plain, base = _parts(path)[0], _parts(folder)[0].rstrip("/") + "/"
    return plain.removeprefix(base) if plain.startswith(base) else plain.rpartition("/")[2]


def _parts(path: str) -> tuple[str, str]:
    """Return a path without the options of a URI, and these with their `?`."""
    plain, mark, options = path.partition("?") if is_remote(path) else (path, "", "")
    return plain, mark + options


def _wild(path: str) -> re.Match | None:
    """Return where a pattern begins; what is there by that very name is none."""
    if not is_remote(path) and Path(path).exists():
        return None
    return (_REMOTELY_WILD if is_remote(path) else _WILD).search(_parts(path)[0])


def _joined(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{quote(name, safe='/=+,') if is_remote(base) else name}"


def _pattern(path: str, base: str) -> str | None:
    """Return what names relative to the folder of a pattern must be like, None for a folder."""
    if not _wild(path):
        return None
    pattern = _parts(path)[0].removeprefix(base.rstrip("/")).lstrip("/")
    return unquote(pattern) if is_remote(path) else pattern


def _is_wanted(name: str, pattern: str | None, suffixes: tuple[str, ...]) -> bool:
    if any(part.startswith((".", "_")) for part in name.split("/")):
        return False
    return (pattern is None or _fits(name, pattern)) and name.lower().endswith(suffixes)


def _fits(name: str, pattern: str) -> bool:
    """Return whether a name is as in a shell, or below a folder that is."""
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
    return file_systems.at(*_parts(path))
