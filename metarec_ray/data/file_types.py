"""Columns of the files of one log: their types, and whether these fit each other.

Knows what each file says of itself; does not read a row of Parquet.
"""

from collections.abc import Sequence

import polars as pl

from metarec_ray.data import tables
from metarec_ray.data.places import File
from metarec_ray.data.settings import Columns
from metarec_ray.data.validate import Ids
from metarec_ray.errors import DataError


def schemas(files: Sequence[File], wanted: Sequence[str]) -> list[tuple[File, tables.Types]]:
    """Return each file with the types of its columns, those of its folders among them."""
    found = [(file, tables.schema(file.path)) for file in files]
    # A column that a file has as well is read from the file.
    own = [
        {name: value for name, value in file.partitions.items() if name not in types}
        for file, types in found
    ]
    text = {n for one in own for n, value in one.items() if not value.lstrip("-").isdecimal()}
    whole = []
    for (file, types), values in zip(found, own, strict=True):
        types = types | {name: pl.String() if name in text else pl.Int64() for name in values}
        tables.require_columns(wanted, list(types), file.name)
        whole.append((file._replace(partitions=values), types))
    if tables.kind(files[0].path) == "Parquet":
        for name in wanted:
            _refuse_drift(name, [(file, types[name]) for file, types in whole])
    return whole


def id_types(found: Sequence[tuple[File, tables.Types]], roles: Columns) -> Ids:
    """Return the types of ids: integers where all files have integers.

    In text they become strings otherwise; of types other than these two `data.validate` complains.
    """
    kinds: list[pl.DataType] = []
    for name in (roles.entity, roles.item):
        seen: dict[bool, File] = {}
        for file, types in found:
            seen.setdefault(types[name].is_integer(), file)
        if len(seen) > 1 and tables.kind(found[0][0].path) == "Parquet":
            raise DataError(
                f"ids must be of one type in all files, column {name!r} is of integers in "
                f"{seen[True].name} and not in {seen[False].name}"
            )
        kinds.append(pl.String() if False in seen else pl.Int64())
    return Ids(*kinds)


def _refuse_drift(name: str, found: Sequence[tuple[File, pl.DataType]]) -> None:
    """Raise a DataError where a column is of another sort in another file; null is of any."""
    seen: dict[str, tuple[File, pl.DataType]] = {}
    for file, dtype in found:
        if dtype != pl.Null:
            seen.setdefault(_sort(dtype), (file, dtype))
    if len(seen) > 1:
        (one, first), (other, second) = list(seen.values())[:2]
        raise DataError(
            f"a column must be of one sort in all files, {name!r} is {first} in {one.name} and "
            f"{second} in {other.name}"
        )


def _sort(dtype: pl.DataType) -> str:
    if dtype.is_numeric() or dtype == pl.Boolean:
        return "numbers"
    if dtype.is_temporal():
        return "times"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    return "lists" if dtype.is_nested() else str(dtype)
