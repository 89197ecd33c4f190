"""Column types of all files of a log: brought together, or refused as schema drift.

Knows the schema of each file; does not read a row of Parquet.
"""

import re
from collections.abc import Sequence

import polars as pl

from metarec_ray.data.files import tables
from metarec_ray.data.files.paths import File
from metarec_ray.data.log.validate import Ids
from metarec_ray.data.settings import Columns, Data
from metarec_ray.errors import DataError

_INTEGER = re.compile(r"-?[0-9]{1,18}")


def schemas(files: Sequence[File], wanted: Sequence[str]) -> list[tuple[File, tables.Types]]:
    """Return each file with the types of its columns, partition columns included.

    Raises:
        DataError: a `wanted` column is missing, or changes its type between Parquet files.

    """
    found = [(file, tables.schema(file.path)) for file in files]
    # A column that is both in a file and in a folder name is read from the file.
    own = [
        {name: value for name, value in file.partitions.items() if name not in types}
        for file, types in found
    ]
    text = {n for one in own for n, value in one.items() if not _INTEGER.fullmatch(value)}
    whole = []
    for (file, types), values in zip(found, own, strict=True):
        types = types | {name: pl.String() if name in text else pl.Int64() for name in values}
        tables.require_columns(wanted, list(types), file.name)
        whole.append((file._replace(partitions=values), types))
    if tables.kind(files[0].path) == "Parquet":
        for name in wanted:
            _refuse_drift(name, [(file, types[name]) for file, types in whole])
        return whole
    return _filled(whole, wanted)


def id_types(found: Sequence[tuple[File, tables.Types]], roles: Columns) -> Ids:
    """Return the types of ids: integers if all files have integers, else strings.

    A column of nulls fits both. `validate` refuses other types than these two.

    Raises:
        DataError: some Parquet files have integers, others do not.

    """
    kinds: list[pl.DataType] = []
    for name in (roles.entity, roles.item):
        seen: dict[bool, File] = {}
        for file, types in found:
            if types[name] != pl.Null:
                seen.setdefault(types[name].is_integer(), file)
        if len(seen) > 1 and tables.kind(found[0][0].path) == "Parquet":
            raise DataError(
                f"ids must be of one type in all files, column {name!r} is of integers in "
                f"{seen[True].name} and not in {seen[False].name}"
            )
        kinds.append(pl.Int64() if set(seen) == {True} else pl.String())
    return Ids(*kinds)


def text_types(found: Sequence[tuple[File, tables.Types]], settings: Data) -> tables.Types:
    """Return the categorical columns that are text in some file, and so are read as text in all.

    `01` and `1` are two categories, whatever else their file holds.
    """
    kinds = {name: feature.kind for name, feature in settings.context.items()}
    names = [name for name, kind in kinds.items() if kind.endswith("categorical")]
    roles = settings.roles
    names += [name for name in (roles.event, roles.domain) if name is not None]
    return {
        name: pl.String()
        for name in names
        if any(types[name] == pl.String for _, types in found)
        and not any(types[name].is_nested() for _, types in found)
    }


def _filled(
    found: list[tuple[File, tables.Types]], wanted: Sequence[str]
) -> list[tuple[File, tables.Types]]:
    """Give an empty column of a text file the type that it has in other files."""
    others = {
        name: types[name]
        for _, types in reversed(found)
        for name in wanted
        if types[name] not in (pl.String, pl.Null)
    }
    filled = []
    for file, types in found:
        asked = [n for n in others if types[n] == pl.String and n not in file.partitions]
        empty = tables.empty_columns(file.path, asked) if asked else []
        filled.append((file, types | {name: others[name] for name in empty}))
    return filled


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
