"""A folder of files that prove themselves: a manifest of their hashes, and its own hash beside it.

Knows hashes and names; does not know what the files say. Nothing is whole before `COMMITTED`, which
is written last.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from metarec_ray.data.files.hashes import sha256_file
from metarec_ray.errors import CheckpointError

MANIFEST, COMMITTED = "manifest.json", "COMMITTED"


def write(path: Path, data: bytes) -> None:
    """Write a file and bring it to disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def commit(folder: Path, names: Iterable[str]) -> None:
    """Write the manifest of the files `names` of a folder, and what commits it."""
    manifest = as_json({name: sha256_file(folder / name) for name in names})
    write(folder / MANIFEST, manifest)
    write(folder / COMMITTED, _commitment(manifest))


def verify(folder: Path) -> None:
    """Raise a CheckpointError unless all files are as they were written."""
    if not (folder / COMMITTED).is_file():
        what = "was never committed" if folder.is_dir() else "does not exist"
        raise CheckpointError(f"a checkpoint must be a committed directory, {folder} {what}")
    manifest = read(folder / MANIFEST)
    if read(folder / COMMITTED) != _commitment(manifest):
        raise CheckpointError(
            f"{COMMITTED} of a checkpoint must hold the sha256 of its {MANIFEST}, one of them was "
            f"altered ({folder})"
        )
    for name, expected in json.loads(manifest).items():
        if (found := _found_sha256(folder / name)) != expected:
            raise CheckpointError(
                "every file of a checkpoint must have the hash of its manifest, "
                f"{folder / name} has sha256 {found[:12]} instead of {expected[:12]}"
            )


def read(path: Path) -> bytes:
    """Return the bytes of a file; CheckpointError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(error) from error


def as_json(value: dict[str, Any]) -> bytes:
    """Return the same bytes for the same value, NaN refused."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _found_sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise _unreadable(error) from error


def _commitment(manifest: bytes) -> bytes:
    return hashlib.sha256(manifest).hexdigest().encode() + b"\n"


def _unreadable(error: OSError) -> CheckpointError:
    return CheckpointError(f"every file of a checkpoint must be readable, got {error}")
