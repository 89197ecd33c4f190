"""What the columns of a whole log are: which ids are integers, which text, which have gaps.

An id is an integer only if every one of them prints as it was written: `01`, `+1` and `1.0` are
text. Decided over all files before a row is kept. Does not know what becomes of a row.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from metarec_ray.data.files import tables
from metarec_ray.data.files.paths import File
from metarec_ray.data.log.roles import Ids
from metarec_ray.data.log.values import Written, meant
from metarec_ray.data.settings import Data
from metarec_ray.errors import DataError

BATCH_ROWS = 1_000_000
LARGEST = 2**63 - 1

Found = Sequence[tuple[File, tables.Types]]


class Survey(NamedTuple):
    """What was found of a log.

    Attributes:
        ids: types of its ids.
        whole: columns of text in which `1.0` stands for 1, because of a gap.
        notes: what a reader of the log should know of this, sentences.

    """

    ids: Ids
    whole: frozenset[str]
    notes: tuple[str, ...]


def schemas(files: Sequence[File], wanted: Sequence[str], settings: Data) -> Found:
    """Return each file with the types of its columns, partition columns included.

    Raises:
        DataError: a `wanted` column is missing, or changes its type between Parquet files.

    """
    whole = []
    for file in files:
        types = tables.schema(file.path, settings, wanted)
        # A column that is both in a file and in a folder name is read from the file.
        own = {name: value for name, value in file.partitions.items() if name not in types}
        types = types | dict.fromkeys(own, pl.String())
        tables.require_columns(wanted, list(types), file.name)
        whole.append((file._replace(partitions=own), types))
    for name in wanted:
        _refuse_drift(name, [(file, types[name]) for file, types in whole])
    return whole


def survey(found: Found, settings: Data) -> Survey:
    """Return what the ids and categories of a log are.

    Raises:
        DataError: ids are of a type that none can have, or of several types in Parquet files.

    """
    roles = settings.roles
    ids = (roles.entity, roles.item)
    names = dict.fromkeys([*ids, *_categories(settings)])
    texts = {n for n in names if any(types[n] == pl.String for _, types in found)}
    values = _surveyed(found, sorted(texts), settings)
    whole = frozenset(name for name, one in values.items() if one.whole)
    notes = [
        f"numbers as 1.0 in column {name!r} are read as 1: a column of numbers with gaps has them"
        for name in sorted(whole)
    ]
    kinds = []
    for name in ids:
        dtype, note = (values[name].dtype, None) if name in texts else _stored(name, found)
        kinds.append(dtype)
        notes += [note] if note else []
    return Survey(Ids(*kinds), whole, tuple(notes))


def _categories(settings: Data) -> list[str]:
    """Return the columns whose values are names."""
    kinds = {name: feature.kind for name, feature in settings.context.items()}
    names = [name for name, kind in kinds.items() if kind == "categorical"]
    return [*names, *filter(None, (settings.roles.event, settings.roles.domain))]


def _surveyed(found: Found, names: Sequence[str], settings: Data) -> dict[str, Written]:
    """Return how numbers are written in columns of text, over all files."""
    values = dict.fromkeys(names, Written())
    for file, types in found:
        for frame in _frames(file, types, values, settings):
            for column in frame.get_columns():
                values[column.name] = values[column.name].merged(Written.of(column))
    return values


def _frames(
    file: File, types: tables.Types, values: Mapping[str, Written], settings: Data
) -> Iterator[pl.DataFrame]:
    """Yield columns of text that are not known to hold more than numbers."""
    open_ = [name for name in values if types[name] == pl.String]
    of_folder = {
        n: pl.Series([file.partitions[n]], dtype=pl.String) for n in open_ if n in file.partitions
    }
    if of_folder:
        yield meant(pl.DataFrame(of_folder), settings)
    own = [name for name in open_ if name not in of_folder and not values[name].others]
    if not own:
        return
    if not tables.is_text(file.path):
        # Text stays text in Parquet, where somebody chose the type.
        yield pl.DataFrame({name: ["text"] for name in own})
        return
    for part in tables.batches(file.path, own, form=settings, rows=BATCH_ROWS):
        yield meant(part.frame, settings)
        if all(values[name].others for name in own):
            return


def _stored(name: str, found: Found) -> tuple[pl.DataType, str | None]:
    """Return the type of ids in Parquet files, and what should be known of it."""
    types = {types[name] for _, types in found} - {pl.Null()}
    beyond = pl.UInt64() in types and any(_beyond(file, name) for file, _ in found)
    if any(dtype.is_float() for dtype in types):
        if beyond:
            raise DataError(
                f"ids must be integers or text, column {name!r} has floats in one file and numbers "
                f"over {LARGEST} in another"
            )
        return pl.Int64(), f"floats in column {name!r} are read as integers, which ids are"
    if pl.UInt64() in types:
        note = f"ids of column {name!r} are text, some are over {LARGEST}" if beyond else None
        return (pl.String(), note) if beyond else (pl.Int64(), None)
    return (pl.Int64() if types and all(t.is_integer() for t in types) else pl.String()), None


def _beyond(file: File, name: str) -> bool:
    """Return whether an integer of a Parquet column is over `LARGEST`."""
    parts = tables.batches(file.path, [name], rows=BATCH_ROWS)
    columns = (part.frame[name] for part in parts)
    return any((one > LARGEST).any() for one in columns if one.dtype == pl.UInt64)


def _refuse_drift(name: str, found: Sequence[tuple[File, pl.DataType]]) -> None:
    """Raise a DataError if a column has another kind of type in another file; null fits all."""
    seen: dict[str, tuple[File, pl.DataType]] = {}
    for file, dtype in found:
        if dtype != pl.Null:
            seen.setdefault(_kind_of(dtype), (file, dtype))
    if len(seen) > 1:
        (one, first), (other, second) = list(seen.values())[:2]
        raise DataError(
            f"a column must have one type in all files, {name!r} is {first} in {one.name} and "
            f"{second} in {other.name}"
        )


def _kind_of(dtype: pl.DataType) -> str:
    if dtype.is_numeric() or dtype == pl.Boolean:
        return "numbers"
    if dtype.is_temporal():
        return "times"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    return "lists" if dtype.is_nested() else str(dtype)
