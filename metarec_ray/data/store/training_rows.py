"""What the training rows of one bucket hold: vocabularies and statistics come from these alone.

Training rows are those of entities not held out for test, before the cutoff, on items that are not
cold, and not among the last of their entity where these are held out. Does not know files.
"""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from metarec_ray.data.log.features import encode
from metarec_ray.data.log.features.encode import ColumnStats
from metarec_ray.data.settings import Feature
from metarec_ray.data.store.split import Split


class TrainingSummary(NamedTuple):
    """The `items` (item) of a bucket's training rows, and statistics of the `columns` of events."""

    items: pl.DataFrame
    columns: dict[str, ColumnStats]


def summarise_training(
    rows: pl.DataFrame, split: Split, features: Mapping[str, Feature]
) -> TrainingSummary:
    """Return what the training rows among `rows` hold; `split` knows at least their entities.

    `features` are those of events by column: `context.<feature>`, `label.<name>`.
    """
    known = split.entities.filter(pl.col("part") != "test").select("entity")
    kept = rows.join(known, on="entity", how="semi", maintain_order="left")
    if split.held_last:
        later = pl.int_range(pl.len(), 0, -1).over("entity") - 1
        kept = kept.filter(later >= split.held_last)
    kept = kept.join(split.cold, on="item", how="anti", maintain_order="left")
    if split.cutoff is not None:
        kept = kept.filter(pl.col("time") < split.cutoff)
    columns = {
        column: encode.column_stats(kept[column], features[column]) for column in sorted(features)
    }
    return TrainingSummary(kept.select("item").unique().sort("item"), columns)
