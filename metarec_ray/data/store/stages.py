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
from metarec_ray.data.store import bucket_files, bucket_rows, training_rows
from metarec_ray.data.store.bucket_files import BucketPlan
from metarec_ray.data.store.bucket_rows import Summary
from metarec_ray.data.store.manifest import bucket_name
from metarec_ray.data.store.mappings import NO_MAPPINGS, Mappings
from metarec_ray.data.store.previous import Previous
from metarec_ray.data.store.split import Split
from metarec_ray.data.store.training_rows import TrainingSummary


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
    def mappings(self) -> Mappings:
        """Numbers and encoders of the previous version."""
        return NO_MAPPINGS if self.previous is None else self.previous.mappings()

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


def group(work: Work, shuffled: dict[int, list[int]], bucket: int) -> Done:
    """Gather the rows of a bucket, cut them into sessions, sort, deduplicate and truncate them.

    `shuffled` holds, for each chunk, the bucket of each record batch.
    """

    def run() -> Done:
        settings = work.settings
        rows = sessions.cut(_gathered(work, shuffled, bucket), settings)
        unique = bucket_rows.deduplicate(rows, shuffle=settings.tie_seed)
        kept, too_long = bucket_rows.truncate(unique, settings.max_events)
        found = bucket_rows.summarise(kept)
        made = {"rows": kept, "too_long": too_long} | found._asdict()
        for name, frame in made.items():
            shuffle.save(work.file(name, bucket), frame)
        return Done(bucket, len(rows), len(kept), len(unique) - len(kept))

    return _once(work.file("group", bucket), run)


def _gathered(work: Work, shuffled: dict[int, list[int]], bucket: int) -> pl.DataFrame:
    """Return the rows of a bucket, those of the previous version among them."""
    files = [(work.file("spool", number), own) for number, own in sorted(shuffled.items())]
    rows = shuffle.read(files, bucket, empty=pl.DataFrame(schema=work.columns))
    if work.previous is None:
        return rows
    old = work.previous.rows(bucket)
    if work.settings.session_gap is not None:
        old = sessions.with_session(old, work.ids.entity)
    return pl.concat([old.cast(work.columns), rows], how="diagonal")


def summary(work: Work, bucket: int) -> Summary:
    """Return what a grouped bucket holds."""
    return Summary(*(shuffle.load(work.file(name, bucket)) for name in Summary._fields))


def partition(work: Work, name: str, entities: pl.DataFrame, buckets: Collection[int]) -> None:
    """Write the entities of each bucket to a file of that name: no unit holds those of others."""
    empty = entities.clear()
    parts = entities.partition_by("bucket", as_dict=True)
    for bucket in buckets:
        shuffle.save(work.file(name, bucket), parts.get((bucket,), empty))


def summarise_training(work: Work, split: Split, bucket: int) -> tuple[int, TrainingSummary]:
    """Return what a bucket's training rows hold, with its number.

    The entities of the split were partitioned as `split`.
    """
    rows = shuffle.load(work.file("rows", bucket))
    own = split._replace(entities=shuffle.load(work.file("split", bucket)))
    return bucket, training_rows.summarise_training(rows, own, context=work.settings.context)


def write(work: Work, plan: BucketPlan, folder: Path, bucket: int) -> Done:
    """Write the file of a bucket; the entities of its plan were partitioned as `plan`."""

    def run() -> Done:
        rows = shuffle.load(work.file("rows", bucket))
        own = plan._replace(entities=shuffle.load(work.file("plan", bucket)))
        table = bucket_files.bucket_table(rows, own)
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
