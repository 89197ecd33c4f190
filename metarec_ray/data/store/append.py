"""Add what is new in a log to a store: a version that shares the buckets nothing happened in.

Ids and vocabularies of the present version keep their numbers, new ones come after them, and
numeric features keep their mean and standard deviation: what was trained on the older version can
be served with the newer one. Parts and the cut in time are decided anew, over all entities.
"""

from pathlib import Path

from metarec_ray.data import times
from metarec_ray.data.log import reading, sources
from metarec_ray.data.log.sources import Source
from metarec_ray.data.settings import Data
from metarec_ray.data.store import pipeline, writing
from metarec_ray.data.store.manifest import Manifest, load, verify
from metarec_ray.data.store.pipeline import Run
from metarec_ray.data.store.previous import Previous
from metarec_ray.data.store.versions import complete
from metarec_ray.errors import DataError


def append(source: Source, path: Path, run: Run, *, since: int | None = None) -> Manifest:
    """Publish a version of the store at `path` with the events of a log added, and return it.

    Events that it has already are duplicates; those before `since`, microseconds, are filtered.

    Raises:
        DataError: there is no store, its settings or types of ids are others, a log without a clock
            has no `since`, or too many rows are bad; the present version stays.

    """
    complete(path)
    previous = Previous(path, load(path))
    verify(path, previous.manifest)
    settings, present = source.settings, previous.manifest
    if writing.settings_hash(settings) != present.settings_sha256:
        raise DataError(
            f"a log is added with the settings of the store, those of data are others ({path}): "
            "`metarec prepare` makes it anew"
        )
    source = sources.with_text_ids(source, present.ids)
    if source.ids.kinds != present.ids and _holds_rows(source):
        raise DataError(
            f"ids must be of the types that the store has, {' and '.join(present.ids)}, got "
            f"{' and '.join(source.ids.kinds)} ({settings.path})"
        )
    if since is not None:
        sources.require_time(settings, "--since")
    return pipeline.build(source, path, run, previous=previous, since=since)


def _holds_rows(source: Source) -> bool:
    """Return whether a log holds anything: ids of none are of no type."""
    frames = (raw for chunk in source.chunks for raw in reading.read_chunk(chunk, source.settings))
    return any(len(raw) for raw in frames)


def instant(text: str, settings: Data) -> int:
    """Return a date or time, in the zone of the log if it names none, as microseconds.

    Raises:
        DataError: it is neither.

    """
    try:
        return times.instant(text, settings.time_zone)
    except ValueError as error:
        raise DataError(
            f"--since must be a date or a time, as 2024-05-31T12:00, got {text!r}"
        ) from error
