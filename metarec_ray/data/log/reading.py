"""Read the rows of a source, check them, bring them to canonical columns.

Does not know where a log is found (`sources`), nor what is made of its rows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.datasets import layouts, synthetic
from metarec_ray.data.files import parts, tables
from metarec_ray.data.files.parts import Part
from metarec_ray.data.log import roles, selection, tally, validate
from metarec_ray.data.log.side_tables import side_tables
from metarec_ray.data.log.sources import SYNTHETIC, Chunk, columns, find
from metarec_ray.data.log.validate import Checked
from metarec_ray.data.settings import Data
from metarec_ray.errors import DataError

BATCH_ROWS = 1_000_000  # read at a time


class Log(NamedTuple):
    """A checked log.

    Attributes:
        events: entity, item, label, time (absent without a clock), sequence, domain (absent without
            its role), `context.<feature>`, `label.<name>`.
        users: id and features in canonical dtypes, or None.
        items: id, title and features likewise, or None.
        settings: the `data` section with the defaults of the layout filled in.
        fingerprint: hash of the input.
        rejected: bad rows: file, row, reason, value, rows (1 each).
        rows_in: number of rows read, bad and filtered ones included.
        filtered: number of rows that the settings leave out.

    """

    events: pl.DataFrame
    users: pl.DataFrame | None
    items: pl.DataFrame | None
    settings: Data
    fingerprint: str
    rejected: pl.DataFrame
    rows_in: int
    filtered: int


def read_chunk(chunk: Chunk, settings: Data) -> Iterator[Part]:
    """Yield the raw rows of a chunk, a batch at a time, with the columns that `settings` name."""
    wanted = list(dict.fromkeys(columns(settings)))
    if chunk.path == SYNTHETIC:
        log = synthetic.generate(settings.synthetic, settings.feedback, settings.seed)
        raw = log.events
    elif chunk.layout is not None:
        raw = layouts.named(chunk.layout).read_log(Path(chunk.path))
    else:
        yield from _of_file(chunk, wanted, settings)
        return
    tables.require_columns(wanted, raw.columns, chunk.file)
    yield from parts.plain(iter([raw.select(wanted)]))


def _of_file(chunk: Chunk, wanted: list[str], settings: Data) -> Iterator[Part]:
    own = [name for name in wanted if name not in chunk.partitions]
    values = [pl.lit(value, pl.String).alias(name) for name, value in chunk.partitions.items()]
    found = tables.batches(chunk.path, own, groups=chunk.groups, form=settings, rows=BATCH_ROWS)
    for part in found:
        rows = part.rows + chunk.first_row if chunk.first_row else part.rows
        yield part._replace(frame=part.frame.with_columns(values).select(wanted), rows=rows)


def check_chunk(chunk: Chunk, settings: Data, *, since: int | None = None) -> Iterator[Checked]:
    """Read a chunk a batch at a time; yield what became of its rows.

    Events before `since` (microseconds) are filtered.
    """
    kept = selection.kept(settings, chunk.selection, settings.roles.sequence)
    for part in read_chunk(chunk, settings):
        yield validate.check(
            part, settings, file=chunk.file, whole=chunk.whole, kept=kept, since=since
        )


def read_log(settings: Data, *, data_dir: Path | None = None) -> Log:
    """Read and check a whole log in this process."""
    source = find(settings, data_dir=data_dir)
    checked: list[Checked] = []
    for chunk in source.chunks:
        checked.extend(check_chunk(chunk, source.settings))
    counts = tally.total(one.tally for one in checked)
    if counts.rows == 0:
        raise DataError(f"a log must hold rows, got none ({source.settings.path})")
    users, items = side_tables(source)
    dtypes = roles.schema(source.settings, source.ids)
    events = pl.concat([one.events.cast(dtypes) for one in checked])
    return Log(
        events=events,
        users=users,
        items=items,
        settings=source.settings,
        fingerprint=source.fingerprint,
        rejected=pl.concat([one.rejected for one in checked]).sort("file", "row"),
        rows_in=counts.rows,
        filtered=sum(counts.filtered.values()),
    )
