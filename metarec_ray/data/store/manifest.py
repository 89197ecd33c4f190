"""The manifest of a task store: what a version of it holds and the hashes that prove it.

Knows file names and hashes; does not know how a row of a bucket is read or written, nor how a
version comes to be (`versions`).
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import JsonValue, ValidationError

from metarec_ray.data.fields import FeatureField, Frozen, IdKind, Side
from metarec_ray.data.files.hashes import sha256_file, sha256_json
from metarec_ray.data.settings import Feedback
from metarec_ray.errors import DataError

MANIFEST = "manifest.json"
UNFINISHED = "manifest.tmp"
ENTITIES = "entities.parquet"
ITEMS = "items.parquet"
VOCABULARIES = "vocabularies.json"
QUARANTINE = "quarantine.parquet"
SCHEMA_VERSION = 3


class Counts(Frozen):
    """What became of every row of the log: the parts sum to `rows_in`."""

    rows_in: int
    kept: int
    filtered: int
    collapsed: int
    quarantined: dict[str, int]


class FileEntry(Frozen):
    """Rows, hash and place in the store of one file; a JSON file has 0 rows."""

    rows: int
    sha256: str
    path: str


class Manifest(Frozen):
    """What a task store holds.

    Attributes:
        version: of the store, from 1; each publication is one.
        counts: rows of the log by what became of them.
        tasks: number of entities, one row each.
        events: number of kept events, before any cut in time.
        parts: number of tasks by part: train, valid, test.
        entity: the log's column whose values have the histories.
        ids: types of the log's ids of entities and items; sessions of either have text.
        has_time: whether the log has a time role.
        cutoff: microseconds; None where nothing is cut in time.
        features: encoded features by side, in the order of their names.
        files: every file of this version but the manifest, by name; a file that an older version
            wrote stays where it is.
        settings: the `data` section that led here, defaults of the layout filled in.
        source_fingerprint: of the input files' names, sizes and contents.
        store_sha256: over the hashes of buckets, entities, items and vocabularies in name order.

    """

    schema_version: int = SCHEMA_VERSION
    version: int
    feedback: Feedback
    entity: str
    ids: tuple[IdKind, IdKind]
    counts: Counts
    tasks: int
    events: int
    items: int
    parts: dict[str, int]
    has_time: bool
    cutoff: int | None
    buckets: int
    features: dict[Side, list[FeatureField]]
    files: dict[str, FileEntry]
    settings: dict[str, JsonValue]
    settings_sha256: str
    source_fingerprint: str
    store_sha256: str
    versions: dict[str, str]
    created_at: str

    def file(self, store: Path, name: str) -> Path:
        """Return where a file of this version lies, given its name."""
        return Path(store) / self.files[name].path

    def key(self) -> str:
        """Return a name that no other manifest has."""
        return sha256_json(self.model_dump(mode="json"))[:16]

    def summary(self) -> dict[str, JsonValue]:
        """Return what one reads first: sizes, parts, rows set aside and the store's hash."""
        return {
            "tasks": self.tasks,
            "events": self.events,
            "items": self.items,
            **dict(self.parts),
            "filtered": self.counts.filtered,
            "collapsed": self.counts.collapsed,
            "quarantined": sum(self.counts.quarantined.values()),
            "store_sha256": self.store_sha256,
        }


def version_name(version: int) -> str:
    """Return the folder of what a version wrote.

    >>> version_name(3)
    'v000003'
    """
    return f"v{version:06d}"


def bucket_name(bucket: int) -> str:
    """Return the file name of a bucket.

    >>> bucket_name(3)
    'bucket-00003.parquet'
    """
    return f"bucket-{bucket:05d}.parquet"


def store_hash(files: dict[str, FileEntry]) -> str:
    """Return the hash of a store's content; the quarantine does not belong to it."""
    names = sorted(name for name in files if name != QUARANTINE)
    lines = "".join(f"{name} {files[name].sha256}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def load(store: Path, version: int | None = None) -> Manifest:
    """Return the manifest of a store, of its present version unless another is named.

    The files themselves are not touched (see `verify`).
    """
    path = Path(store) / MANIFEST
    if version is not None:
        path = Path(store) / version_name(version) / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"a task store must hold {MANIFEST}, none can be read at {path}: "
            f"run `metarec prepare` first"
        ) from error
    try:
        fields = json.loads(text)
        version = fields.get("schema_version") if isinstance(fields, dict) else None
        if version != SCHEMA_VERSION:
            raise DataError(
                f"a task store must have schema version {SCHEMA_VERSION}, got {version} ({path})"
            )
        return Manifest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"a manifest must be complete: {place}: {first['msg']} ({path})") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"a manifest must be JSON: {error} ({path})") from error


def save(folder: Path, manifest: Manifest) -> None:
    """Write the manifest by a temporary name, fsync and rename: it is whole or as it was."""
    path = folder / MANIFEST
    temporary = folder / UNFINISHED
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)


def existing(store: Path, manifest: Manifest, name: str) -> Path:
    """Return where a file of the manifest lies; a DataError names it if it is not there."""
    path = manifest.file(store, name)
    if not path.is_file():
        raise DataError(f"a file of the manifest must exist, {name} is missing ({store})")
    return path


def verify(store: Path, manifest: Manifest, names: Iterable[str] | None = None) -> None:
    """Raise a DataError that names the first file whose bytes are not those of the manifest.

    Only files among `names` are read where these are given.
    """
    for name in sorted(manifest.files if names is None else names):
        found, expected = sha256_file(existing(store, manifest, name)), manifest.files[name].sha256
        if found != expected:
            raise DataError(
                f"sha256 of {name} must be {expected[:12]}.., got {found[:12]}.. ({store})"
            )
