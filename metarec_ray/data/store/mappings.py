"""The numbers and encoders that a version of a store gave out, which later versions keep.

Knows frames of raw ids; does not know where they were read from.
"""

from typing import NamedTuple

import polars as pl

from metarec_ray.data.log.features.encode import Encoder


class Mappings(NamedTuple):
    """From raw ids to numbers, and from raw features to encoded ones; None before any version.

    Attributes:
        entities: entity, task_id.
        items: id, item.
        encoders: of the features of user, item, context and label, by side and name.

    """

    entities: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    encoders: dict[str, dict[str, Encoder]] = {}  # noqa: RUF012


NO_MAPPINGS = Mappings()


def numbered(
    frame: pl.DataFrame, key: str, name: str, *, known: pl.DataFrame | None
) -> pl.DataFrame:
    """Return the rows with their number as `name`, sorted by it.

    Rows whose `key` is `known` (key, number) keep their number; the others follow, sorted by key.
    """
    if known is None:
        return frame.sort(key).with_row_index(name).cast({name: pl.Int64})
    old = frame.join(known, on=key).sort(name)
    new = frame.join(known, on=key, how="anti").sort(key)
    new = new.with_row_index(name, offset=len(known)).cast({name: pl.Int64})
    return pl.concat([old.select(new.columns), new])
