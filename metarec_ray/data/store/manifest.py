"""The manifest of a task store: what a version holds, and the checksums of its files.

Knows file names; does not know what a file contains, nor how a version is published (`versions`).
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
    """What happened to the rows of the log; `rows_in` is the sum of the others."""

    rows_in: int
    kept: int
    filtered: int
    collapsed: int
    quarantined: dict[str, int]


class FileEntry(Frozen):
    """Rows, SHA-256 and path in the store of one file; a JSON file has 0 rows."""

    rows: int
    sha256: str
    path: str


class Manifest(Frozen):
    """What a task store holds.

    Attributes:
        version: number, from 1.
        counts: rows of the log, by what happened to them.
        tasks: number of entities, one row each.
        events: number of kept events, before any cut in time.
        parts: number of tasks by part: train, valid, test.
        entity: the log's column of entities.
        ids: types of the log's ids of entities and items; a session's id is text.
        has_time: whether the log has a time role.
        cutoff: microseconds; None where nothing is cut in time.
        features: encoded features by side, sorted by name.
        files: every file of this version except the manifest, by name; some are in the folders of
            older versions.
        settings: the `data` section, with the defaults of the layout.
        source_fingerprint: hash of the input files' names, sizes and contents.
        notes: sentences on what is doubtful of the input.
        store_sha256: over the hashes of buckets, entities, items and vocabularies, by name.

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
    notes: tuple[str, ...] = ()
    store_sha256: str
    versions: dict[str, str]
    created_at: str

    def file(self, store: Path, name: str) -> Path:
        """Return the path of a file of this version, by its name."""
        return Path(store) / self.files[name].path

    def key(self) -> str:
        """Return a name that is unique to this manifest."""
        return sha256_json(self.model_dump(mode="json"))[:16]

    def summary(self) -> dict[str, JsonValue]:
        """Return the most important numbers: sizes, parts, rows left out, the store's hash."""
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
    """Return the name of a version's folder.

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
    """Return the hash of a store's content, without the quarantine."""
    names = sorted(name for name in files if name != QUARANTINE)
    lines = "".join(f"{name} {files[name].sha256}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def load(store: Path, version: int | None = None) -> Manifest:
    """Return the manifest of a version of a store, by default of the present one.

    Other files are not read (see `verify`).

    Raises:
        DataError: there is none, or it is damaged or of another schema version.

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
    """Write the manifest atomically: temporary name, fsync, rename."""
    path = folder / MANIFEST
    temporary = folder / UNFINISHED
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)


def existing(store: Path, manifest: Manifest, name: str) -> Path:
    """Return the path of a file of the manifest; DataError if it does not exist."""
    path = manifest.file(store, name)
    if not path.is_file():
        raise DataError(f"a file of the manifest must exist, {name} is missing ({store})")
    return path


def verify(store: Path, manifest: Manifest, names: Iterable[str] | None = None) -> None:
    """Raise a DataError that names the first file whose SHA-256 is not that of the manifest.

    Reads all files, or those in `names`.
    """
    for name in sorted(manifest.files if names is None else names):
        found, expected = sha256_file(existing(store, manifest, name)), manifest.files[name].sha256
        if found != expected:
            raise DataError(
                f"sha256 of {name} must be {expected[:12]}.., got {found[:12]}.. ({store})"
            )
