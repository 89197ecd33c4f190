"""Add the new events of a log to a store: a version that shares all buckets without a change.

Ids and vocabularies keep their numbers, new ones follow, and numeric features keep their map to
ranks: a model trained on the older version can be served with the newer one. Parts and
cutoff are computed again, over all entities.
"""

from pathlib import Path

from metarec_ray.data import times
from metarec_ray.data.log import reading, sources
from metarec_ray.data.log.sources import Source
from metarec_ray.data.settings import DOMAIN, Data
from metarec_ray.data.store import pipeline, writing
from metarec_ray.data.store.manifest import Manifest, load, verify
from metarec_ray.data.store.planning import Run
from metarec_ray.data.store.previous import Previous
from metarec_ray.data.store.versions import complete
from metarec_ray.errors import DataError


def append(source: Source, path: Path, run: Run, *, since: int | None = None) -> Manifest:
    """Publish a version of the store at `path` with the events of a log added; return its manifest.

    Events that the store has are duplicates; those before `since` (microseconds) are filtered.

    Raises:
        DataError: no store, other settings or types of ids than the store's, `since` without a
            clock, or too many bad rows; the present version stays.

    """
    complete(path)
    previous = Previous(path, load(path))
    verify(path, previous.manifest)
    settings, present = source.settings, previous.manifest
    if writing.settings_hash(settings) != present.settings_sha256:
        raise DataError(
            f"a log must be added with the settings of the store, data has others ({path}): "
            "`metarec prepare` makes a new store"
        )
    source = sources.with_text_ids(source, present.ids)
    source = sources.as_written(source, _with_points(previous, settings))
    if source.ids.kinds != present.ids and _holds_rows(source):
        raise DataError(
            f"ids must be of the types that the store has, {' and '.join(present.ids)}, got "
            f"{' and '.join(source.ids.kinds)} ({settings.path})"
        )
    if since is not None:
        sources.require_time(settings, "--since")
    return pipeline.build(source, path, run, previous=previous, since=since)


def _with_points(previous: Previous, settings: Data) -> set[str]:
    """Return the columns of categories that have a value as 1.0 in the store or its settings."""
    encoders = previous.mappings().encoders
    known = {name: one.vocabulary for name, one in encoders.get("context", {}).items()}
    roles = settings.roles
    if roles.event is not None:
        known[roles.event] = list(settings.event_weights)
    if roles.domain is not None:
        known[roles.domain] = encoders["item"][DOMAIN].vocabulary
    return {name for name, values in known.items() if any(one.endswith(".0") for one in values)}


def _holds_rows(source: Source) -> bool:
    """Return whether a log has a row; without one its ids have no type."""
    parts = (one for chunk in source.chunks for one in reading.read_chunk(chunk, source.settings))
    return any(len(one.frame) for one in parts)


def instant(text: str, settings: Data) -> int:
    """Return a date or time as microseconds, in the zone of the log if it names none.

    Raises:
        DataError: it is neither.

    """
    try:
        return times.instant(text, settings.time_zone)
    except ValueError as error:
        raise DataError(
            f"--since must be a date or a time, as 2024-05-31T12:00, got {text!r}"
        ) from error
