"""What a worker does to make a store: with one chunk of the log, or with one bucket.

Each stage reads files, writes files, and leaves a mark when it is done: after a kill, finished
units are not done again. Does not know workers, nor which units there are (`pipeline`).
"""

import json
import resource
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.files import shuffle
from metarec_ray.data.files.parquet import write_table
from metarec_ray.data.log import quarantine, reading, roles, sessions, tally
from metarec_ray.data.log.roles import Ids
from metarec_ray.data.log.sources import Chunk
from metarec_ray.data.log.tally import Tally
from metarec_ray.data.log.validate import Checked
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
        settings: of the log.
        ids: types of its ids.
        scratch: folder of temporary files, which all workers see.
        previous: the version to add to; None for a new store.
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
        """Canonical columns of an event and their types."""
        return roles.schema(self.settings, self.ids)

    def file(self, name: str, number: int) -> Path:
        """Return the path of a temporary file of the unit `number`."""
        return self.scratch / f"{name}-{number:06d}"


class Done(NamedTuple):
    """What a unit did.

    Attributes:
        unit: number of the chunk or bucket.
        rows: input rows.
        kept: output rows.
        rejected: rows to quarantine.
        tally: what the rows of a chunk hold.
        batches: bucket of each record batch of the shuffle file; of a chunk.
        sha256: of the bucket file.
        peak_bytes: peak memory of the process.

    """

    unit: int
    rows: int
    kept: int
    rejected: int = 0
    tally: Tally = Tally()
    batches: list[int] | None = None
    sha256: str = ""
    peak_bytes: int = 0

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps({**self._asdict(), "tally": self.tally._asdict()})

    @classmethod
    def load(cls, text: str) -> "Done":
        """Return what `dump` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "tally": Tally(**fields["tally"])})


def scan(
    work: Work, chunk: Chunk, unit: int, *, see: Callable[[Checked], None] = lambda _: None
) -> Done:
    """Check a chunk of the log; write good rows to a shuffle file, rejected ones to another.

    `see` gets what is read, a batch at a time.
    """

    def run() -> Done:
        rejected = [pl.DataFrame(schema=quarantine.COLUMNS)]
        tallies: list[Tally] = []

        def frames() -> Iterator[pl.DataFrame]:
            for found in reading.check_chunk(chunk, work.settings, since=work.since):
                known = pl.Schema({name: work.columns[name] for name in found.events.columns})
                typed = found._replace(events=found.events.cast(known))
                see(typed)
                rejected.append(found.rejected)
                tallies.append(found.tally)
                yield bucket_rows.with_bucket(typed.events, work.settings.buckets)

        batches = shuffle.write(work.file("shuffle", unit), frames())
        shuffle.save(work.file("rejected", unit), pl.concat(rejected))
        whole = tally.total(tallies)
        return Done(unit, whole.rows, whole.kept, whole.rejected, whole, batches)

    return _once(work.file("scan", unit), run)


def group(work: Work, shuffled: dict[int, list[int]], bucket: int) -> Done:
    """Read the rows of a bucket; cut them into sessions, sort, deduplicate and truncate them.

    `shuffled` has, for each chunk, the bucket of each record batch.
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
    """Return the rows of a bucket, new ones and those of the previous version."""
    files = [(work.file("shuffle", number), own) for number, own in sorted(shuffled.items())]
    rows = shuffle.read(files, bucket, empty=pl.DataFrame(schema=work.columns))
    if work.previous is None:
        return rows
    old = work.previous.rows(bucket)
    if work.settings.session_gap is not None:
        old = sessions.with_session(old, work.ids.entity)
    return pl.concat([old.cast(work.columns), rows], how="diagonal")


def summary(work: Work, bucket: int) -> Summary:
    """Return the summary of a bucket that was grouped."""
    return Summary(*(shuffle.load(work.file(name, bucket)) for name in Summary._fields))


def partition(work: Work, name: str, entities: pl.DataFrame, buckets: Collection[int]) -> None:
    """Write the entities of each bucket to a file `name` of their own, for the units to read."""
    empty = entities.clear()
    parts = entities.partition_by("bucket", as_dict=True)
    for bucket in buckets:
        shuffle.save(work.file(name, bucket), parts.get((bucket,), empty))


def summarise_training(work: Work, split: Split, bucket: int) -> tuple[int, TrainingSummary]:
    """Return the number of a bucket and the summary of its training rows.

    The bucket's entities are read from the file `split` (see `partition`).
    """
    rows = shuffle.load(work.file("rows", bucket))
    own = split._replace(entities=shuffle.load(work.file("split", bucket)))
    return bucket, training_rows.summarise_training(rows, own, work.settings.event_features)


def write(work: Work, plan: BucketPlan, folder: Path, bucket: int) -> Done:
    """Write the file of a bucket; its entities are read from the file `plan` (see `partition`)."""

    def run() -> Done:
        rows = shuffle.load(work.file("rows", bucket))
        own = plan._replace(entities=shuffle.load(work.file("plan", bucket)))
        table = bucket_files.bucket_table(rows, own)
        sha256 = write_table(table, folder / bucket_name(bucket))
        return Done(bucket, len(rows), table.num_rows, sha256=sha256)

    return _once(work.file("write", bucket), run)


def _once(mark: Path, run: Callable[[], Done]) -> Done:
    """Return the result in the file `mark`; if there is none, call `run` and write it."""
    if mark.is_file():
        return Done.load(mark.read_text("utf-8"))
    done = run()
    done = done._replace(peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    # Not synced: after a reboot nothing is resumed (see `versions.building`).
    temporary = mark.with_suffix(".tmp")
    temporary.write_text(done.dump(), encoding="utf-8")
    temporary.rename(mark)
    return done
