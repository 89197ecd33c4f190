"""The file of one bucket: a row an entity, its whole history in lists.

Knows collapsed rows and what is known of the whole log; does not know where a table is written.
"""

from typing import NamedTuple

import polars as pl
import pyarrow as pa

from metarec_ray.data.log import encode
from metarec_ray.data.log.encode import Encoder


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
