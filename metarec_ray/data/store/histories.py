"""From the checked rows of one bucket to the histories of its entities, as pure functions.

Rows hold entity, item (int64 or string), label float32, time int64 microseconds (absent without a
clock), sequence int64, domain string (where the log says it) and `context.<feature>` columns in
canonical dtypes. Does not know where rows come from, who calls it for which bucket, or where a
table is written.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from metarec_ray.data.draws import mixed
from metarec_ray.data.log import encode
from metarec_ray.data.log.encode import Encoder, Seen
from metarec_ray.data.settings import Data, Feature

HASH_SPAN = 2**64
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


class Plan(NamedTuple):
    """What every bucket must know of the whole log.

    Attributes:
        entities: entity, task_id, part, bucket, `user.<feature>` encoded; sorted by task_id.
        items: id, item: raw ids and their ranks.
        cutoff: microseconds; None where nothing is cut in time.
        has_time: whether the log has a clock.
        context: encoders of the context columns, in the order of their names.
        users: encoders of the user features, likewise.

    """

    entities: pl.DataFrame
    items: pl.DataFrame
    cutoff: int | None
    has_time: bool
    context: list[Encoder]
    users: list[Encoder]


def stable_hash(raw: str | int) -> int:
    """Return the 8-byte blake2b of an id's text as an unsigned integer.

    >>> stable_hash(7) == stable_hash("7")
    True
    """
    return int.from_bytes(blake2b(str(raw).encode(), digest_size=8).digest(), "big")


def with_bucket(rows: pl.DataFrame, buckets: int) -> pl.DataFrame:
    """Add the `bucket` of each row's entity."""
    unique = rows["entity"].unique()
    number = pl.Series([stable_hash(raw) % buckets for raw in unique], dtype=pl.Int32)
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
    numbers = [_hashes(unique["entity"]), _hashes(unique["item"])]
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


def parts(
    entities: pl.DataFrame, settings: Data, *, has_time: bool
) -> tuple[pl.Series, int | None]:
    """Return each entity's part, and the cutoff; `entities` is sorted by task id.

    With a clock the last to begin are held out; without one, or by `split`, a hash of the raw id
    decides. Nothing is cut in time by hash, nor without test entities.
    """
    quantile, share = settings.cutoff_quantile, settings.valid_share
    if not has_time or settings.split == "hash":
        place = _places(entities["entity"])
        held = np.where(place >= quantile, "test", "valid")
        part = np.where(place < quantile * (1 - share), "train", held)
        return pl.Series(part, dtype=pl.String), None
    first = entities["first"].to_numpy()
    cutoff = int(np.quantile(first, quantile, method="higher")) if quantile < 1 else None
    held_out = first >= cutoff if cutoff is not None else np.zeros(len(first), bool)
    part = np.where(held_out, "test", "train").astype("<U5")
    others = np.flatnonzero(~held_out)
    latest = others[np.argsort(first[others], kind="stable")]
    n_valid = max(1, round(share * len(others))) if len(others) > 1 else 0
    part[latest[len(latest) - n_valid :]] = "valid"
    return pl.Series(part, dtype=pl.String), cutoff


def first_met(items: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return every item of some buckets once, or once a domain, with its first time."""
    whole = pl.concat(items)
    return whole.group_by(_kinds(whole)).agg(pl.col("first").min()).sort(_kinds(whole))


def cold_items(items: pl.DataFrame, settings: Data, *, has_time: bool) -> pl.DataFrame:
    """Return the `item`s held out of training; `items` (item, first) may repeat over buckets."""
    whole = first_met([items])
    if not settings.cold_items:
        return whole.clear().select("item")
    if not has_time or settings.split == "hash":
        return whole.filter(pl.Series(_places(whole["item"]) >= 1 - settings.cold_items)).select(
            "item"
        )
    begins = np.quantile(whole["first"].to_numpy(), 1 - settings.cold_items, method="higher")
    return whole.filter(pl.col("first") >= int(begins)).select("item")


def schema(plan: Plan) -> pa.Schema:
    """Return the columns of a bucket file, in order."""
    fields: list[tuple[str, pa.DataType]] = [
        ("task_id", pa.int64()),
        ("part", pa.string()),
        ("item", pa.list_(pa.int64())),
        ("label", pa.list_(pa.float32())),
    ]
    if plan.has_time:
        fields.append(("time", pa.list_(pa.int64())))
    fields += [(f"user.{e.field.name}", encode.ARROW[e.field.kind]) for e in plan.users]
    fields += [
        (f"context.{e.field.name}", pa.list_(encode.ARROW[e.field.kind])) for e in plan.context
    ]
    return pa.schema(fields)


def build(rows: pl.DataFrame, plan: Plan) -> pa.Table:
    """Return one row an entity, sorted by task id, of the collapsed rows of one bucket."""
    known = plan.entities.join(rows.select("entity").unique(), on="entity", how="semi")
    flat = rows.join(known.select("entity", "task_id"), on="entity", maintain_order="left")
    flat = flat.rename({"item": "id"}).join(plan.items, on="id", maintain_order="left")
    clock = ["time"] if plan.has_time else []
    # Ranks of items order ties as raw ids do, so the sort of `collapse` still stands.
    columns = ["item", "label", *clock]
    encoded = [
        encode.encode(flat[name], e, place=f"data.{name}").alias(name)
        for name, e in ((f"context.{e.field.name}", e) for e in plan.context)
    ]
    flat = flat.select("task_id", *columns).with_columns(encoded)
    lists = flat.group_by("task_id", maintain_order=True).agg(pl.all())
    whole = known.join(lists, on="task_id", maintain_order="left").sort("task_id")
    want = schema(plan)
    return whole.select(want.names).to_arrow().cast(want).combine_chunks()


def _kinds(rows: pl.DataFrame) -> list[str]:
    """Return what tells items apart."""
    return [name for name in ("item", "domain") if name in rows.columns]


def _hashes(ids: pl.Series) -> np.ndarray:
    """Return the stable hash of each raw id, each computed once."""
    unique = ids.unique()
    known = pl.Series([stable_hash(raw) for raw in unique], dtype=pl.UInt64)
    return ids.replace_strict(unique, known, return_dtype=pl.UInt64).to_numpy()


def _places(ids: pl.Series) -> np.ndarray:
    """Return where each raw id falls in [0, 1), the same for the same text."""
    return np.array([stable_hash(raw) / HASH_SPAN for raw in ids])
