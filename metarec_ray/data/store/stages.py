"""Units of the work that makes a store out of a log: a chunk, a bucket.

Each reads files and writes files, and puts down what it did when it is done: a unit that is done is
not done again, whoever was killed. Knows no workers: `pipeline` says which units there are, a
caller where they run.
"""

import json
import resource
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.files import shuffle
from metarec_ray.data.files.parquet import write_table
from metarec_ray.data.log import quarantine, reading, sessions, validate
from metarec_ray.data.log.sources import Chunk
from metarec_ray.data.log.validate import Checked, Ids
from metarec_ray.data.settings import Data
from metarec_ray.data.store import bucket_files, bucket_rows
from metarec_ray.data.store.bucket_files import Plan
from metarec_ray.data.store.bucket_rows import Look, Summary
from metarec_ray.data.store.catalogue import NOTHING, Known
from metarec_ray.data.store.manifest import bucket_name
from metarec_ray.data.store.previous import Previous


class Work(NamedTuple):
    """What every unit knows.

    Attributes:
        scratch: the folder of what is only on its way.
        previous: the version that is added to; None where a store is made anew.
        since: microseconds; earlier events are filtered.

    """

    settings: Data
    ids: Ids
    scratch: Path
    previous: Previous | None = None
    since: int | None = None

    @property
    def known(self) -> Known:
        """What the previous version has settled."""
        return NOTHING if self.previous is None else self.previous.known()

    @property
    def columns(self) -> pl.Schema:
        """Canonical columns of an event."""
        return validate.schema(self.settings, self.ids)

    def file(self, name: str, number: int) -> Path:
        """Return where the unit of that number puts what has that name."""
        return self.scratch / f"{name}-{number:06d}"


class Done(NamedTuple):
    """What a unit did.

    Attributes:
        unit: its number.
        rows: rows it was given.
        kept: rows it handed on.
        rejected: rows it set aside with a reason.
        filtered: of a chunk.
        batches: of a chunk: the bucket of each record batch of its shuffle file.
        sha256: of a bucket's file.
        peak_bytes: most memory that the process which did it has held.

    """

    unit: int
    rows: int
    kept: int
    rejected: int = 0
    filtered: int = 0
    batches: list[int] | None = None
    sha256: str = ""
    peak_bytes: int = 0


def scan(work: Work, chunk: Chunk, unit: int) -> Done:
    """Read and check a chunk of the log and write its rows to a shuffle file, by buckets."""

    def run() -> Done:
        rejected: list[pl.DataFrame] = []
        rows = kept = filtered = 0

        def count(read: int, found: Checked) -> None:
            nonlocal rows, kept, filtered
            rows, kept, filtered = rows + read, kept + len(found.events), filtered + found.filtered
            rejected.append(found.rejected)

        batches = shuffle_chunk(work, chunk, unit, see=count)
        aside = pl.concat([pl.DataFrame(schema=quarantine.COLUMNS), *rejected])
        shuffle.save(work.file("rejected", unit), aside)
        return Done(unit, rows, kept, len(aside), filtered, batches)

    return _once(work.file("scan", unit), run)


def shuffle_chunk(
    work: Work, chunk: Chunk, unit: int, *, see: Callable[[int, Checked], None]
) -> list[int]:
    """Check a chunk, write its rows to a shuffle file; return the bucket of each record batch.

    The chunk is read some rows at a time; `see` is called with how many, and the checked ones.
    """

    def frames() -> Iterator[pl.DataFrame]:
        for read, found in reading.check_chunk(chunk, work.settings, since=work.since):
            known = pl.Schema({name: work.columns[name] for name in found.events.columns})
            found = found._replace(events=found.events.cast(known))
            see(read, found)
            yield bucket_rows.with_bucket(found.events, work.settings.buckets)

    return shuffle.write(work.file("spool", unit), frames())


def collapse(work: Work, shuffled: dict[int, list[int]], bucket: int) -> Done:
    """Gather the rows of a bucket, sort them, free them of duplicates and excess.

    `shuffled` holds, of each chunk, the bucket of each record batch.
    """

    def run() -> Done:
        settings = work.settings
        rows = sessions.cut(_gathered(work, shuffled, bucket), settings)
        kept = bucket_rows.collapse(rows, shuffle=settings.tie_seed)
        limited, beyond = bucket_rows.truncate(kept, settings.max_events)
        found = bucket_rows.summarise(limited)
        made = {"rows": limited, "beyond": beyond, "entities": found.entities, "items": found.items}
        for name, frame in made.items():
            shuffle.save(work.file(name, bucket), frame)
        return Done(bucket, len(rows), len(limited), len(kept) - len(limited))

    return _once(work.file("collapse", bucket), run)


def _gathered(work: Work, shuffled: dict[int, list[int]], bucket: int) -> pl.DataFrame:
    """Return the rows of a bucket, those of the previous version among them."""
    files = [(work.file("spool", number), own) for number, own in sorted(shuffled.items())]
    rows = shuffle.read(files, bucket, empty=pl.DataFrame(schema=work.columns))
    if work.previous is None:
        return rows
    old = work.previous.rows(bucket)
    if work.settings.session_gap is not None:
        old = sessions.known(old, work.ids.entity)
    return pl.concat([old.cast(work.columns), rows], how="diagonal")


def summary(work: Work, bucket: int) -> Summary:
    """Return what a collapsed bucket holds."""
    return Summary(*(shuffle.load(work.file(name, bucket)) for name in ("entities", "items")))


def hand_out(work: Work, name: str, entities: pl.DataFrame, buckets: Collection[int]) -> None:
    """Give each bucket its own of all entities: no unit holds more than it needs."""
    empty = entities.clear()
    parts = entities.partition_by("bucket", as_dict=True)
    for bucket in buckets:
        shuffle.save(work.file(name, bucket), parts.get((bucket,), empty))


def look(work: Work, cutoff: int | None, cold: pl.DataFrame, bucket: int) -> tuple[int, Look]:
    """Return what a bucket's training rows hold, with its number (see `bucket_rows.look`).

    The `parts` of its entities were handed out.
    """
    rows = shuffle.load(work.file("rows", bucket))
    entities = shuffle.load(work.file("parts", bucket))
    return bucket, bucket_rows.look(rows, entities, cutoff, work.settings.context, cold)


def write(work: Work, plan: Plan, folder: Path, bucket: int) -> Done:
    """Write the file of a bucket; the entities of its plan were handed out as `planned`."""

    def run() -> Done:
        rows = shuffle.load(work.file("rows", bucket))
        own = plan._replace(entities=shuffle.load(work.file("planned", bucket)))
        table = bucket_files.build(rows, own)
        sha256 = write_table(table, folder / bucket_name(bucket))
        return Done(bucket, len(rows), table.num_rows, sha256=sha256)

    return _once(work.file("write", bucket), run)


def _once(mark: Path, run: Callable[[], Done]) -> Done:
    """Return what `mark` says was done; do it and write that down, if there is none."""
    if mark.is_file():
        return Done(**json.loads(mark.read_text("utf-8")))
    done = run()
    done = done._replace(peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    # Nothing on its way is synced: what the machine's end took, its next start knows by itself.
    temporary = mark.with_suffix(".tmp")
    temporary.write_text(json.dumps(done._asdict()), encoding="utf-8")
    temporary.rename(mark)
    return done
