"""The rows of one bucket: sorted, freed of duplicates, cut short, summed up; pure functions.

Rows hold entity, item (int64 or string), label float32, time int64 microseconds (absent without a
clock), sequence int64, domain string (where the log says it) and `context.<feature>` columns in
canonical dtypes. Does not know where rows come from, who calls it for which bucket, or where a
table is written.
"""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from metarec_ray.data.draws import mixed
from metarec_ray.data.log import encode
from metarec_ray.data.log.encode import Seen
from metarec_ray.data.settings import Feature
from metarec_ray.data.store import id_hashes

BEYOND = "history is longer than data.max_events"
BEFORE = -(2**62)
"""Sequence of the first old event of a bucket: old ones precede what is new at their instant."""


class Summary(NamedTuple):
    """What one bucket holds: `entities` (entity, first, events), `items` (item, first).

    With domains `items` has one row an item and `domain`.
    """

    entities: pl.DataFrame
    items: pl.DataFrame


class Look(NamedTuple):
    """What the training rows of one bucket hold: `items` (item), and `seen` of context columns."""

    items: pl.DataFrame
    seen: dict[str, Seen]


def with_bucket(rows: pl.DataFrame, buckets: int) -> pl.DataFrame:
    """Add the `bucket` of each row's entity."""
    unique = rows["entity"].unique()
    number = pl.Series([id_hashes.stable_hash(raw) % buckets for raw in unique], dtype=pl.Int32)
    table = pl.DataFrame({"entity": unique, "bucket": number})
    return rows.join(table, on="entity", how="left", maintain_order="left")


def collapse(rows: pl.DataFrame, *, shuffle: int | None = None) -> pl.DataFrame:
    """Sort rows by (entity, time, sequence, item) and keep one of each (entity, item, time).

    With `shuffle`, a seed, the rows of one entity and time lie in a random order, drawn from
    (entity, item, sequence): where the order inside one timestamp could tell what follows. Old
    events (see `BEFORE`) stay as they lay, before the others.

    The last by sequence is kept, then the one of the largest label; whatever is left to choose is
    decided by the other columns, so the result does not depend on the order of `rows`.
    """
    clock = ["time"] if "time" in rows.columns else []
    known = {"entity", "item", "time", "sequence", "label", "bucket"}
    others = sorted(name for name in rows.columns if name not in known)
    key = ["entity", "item", *clock]
    by = [*key, "sequence", "label", *others]
    # Nulls first: a value wins over none, and polars takes a quarter of the time.
    found = rows.sort(by)
    unique = found.filter(
        pl.any_horizontal(pl.col(name) != pl.col(name).shift(-1) for name in key).fill_null(True)
    )
    if shuffle is None:
        return unique.sort("entity", *clock, "sequence", "item")
    # The entity too: with a sequence of its own for each, all would be shuffled alike.
    numbers = [id_hashes.stable_hashes(unique["entity"]), id_hashes.stable_hashes(unique["item"])]
    numbers.append(unique["sequence"].cast(pl.Int64).fill_null(0).to_numpy())
    drawn = unique.with_columns(order=pl.Series(mixed(shuffle, *numbers)))
    old = pl.when(pl.col("sequence") < BEFORE // 2).then("sequence").otherwise(0)
    return drawn.sort("entity", *clock, old, "order", "sequence", "item").drop("order")


def truncate(rows: pl.DataFrame, max_events: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Keep the first `max_events` of each entity; also return what was cut, as rejected rows."""
    position = pl.int_range(pl.len()).over("entity")
    beyond = rows.filter(position >= max_events).group_by("entity").agg(rows=pl.len())
    rejected = beyond.sort("entity").select(
        file=pl.lit(""),
        row=pl.lit(None, pl.Int64),
        reason=pl.lit(BEYOND),
        value=pl.col("entity").cast(pl.String),
        rows=pl.col("rows").cast(pl.Int64),
    )
    return rows.filter(position < max_events), rejected


def summarise(rows: pl.DataFrame) -> Summary:
    """Return the entities and items of one bucket with their first times (0 without clock)."""
    first = pl.col("time").min() if "time" in rows.columns else pl.lit(0, pl.Int64)
    entities = rows.group_by("entity").agg(first=first, events=pl.len().cast(pl.Int64))
    items = rows.group_by(_kinds(rows)).agg(first=first)
    return Summary(entities.sort("entity"), items.sort(_kinds(rows)))


def look(
    rows: pl.DataFrame,
    entities: pl.DataFrame,
    cutoff: int | None,
    context: dict[str, Feature],
    cold: pl.DataFrame,
) -> Look:
    """Return the items of one bucket's training rows, and what their context columns hold.

    Training rows are those of entities not held out for test, before the cutoff, on items that are
    not among the `cold` ones.
    """
    known = entities.filter(pl.col("part") != "test").select("entity")
    kept = rows.join(known, on="entity", how="semi", maintain_order="left")
    kept = kept.join(cold, on="item", how="anti", maintain_order="left")
    if cutoff is not None:
        kept = kept.filter(pl.col("time") < cutoff)
    seen = {name: encode.look(kept[f"context.{name}"], context[name]) for name in sorted(context)}
    return Look(kept.select("item").unique().sort("item"), seen)


def first_met(items: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return every item of some buckets once, or once a domain, with its first time."""
    whole = pl.concat(items)
    return whole.group_by(_kinds(whole)).agg(pl.col("first").min()).sort(_kinds(whole))


def _kinds(rows: pl.DataFrame) -> list[str]:
    """Return what tells items apart."""
    return [name for name in ("item", "domain") if name in rows.columns]
