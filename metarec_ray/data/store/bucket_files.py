"""The file of one bucket: a row an entity, its whole history in lists.

Knows the rows of a bucket and the plan for all buckets; does not know where a table is written.
"""

from typing import NamedTuple

import polars as pl
import pyarrow as pa

from metarec_ray.data.log.features import encode
from metarec_ray.data.log.features.encode import Encoder


class BucketPlan(NamedTuple):
    """What every bucket must know of the whole log.

    Attributes:
        entities: entity, task_id, part, bucket, `user.<feature>` encoded; sorted by task_id.
        items: id, item: raw ids and their numbers.
        cutoff: microseconds; None where nothing is cut in time.
        has_time: whether the log has a clock.
        context: encoders of the context columns, in the order of their names.
        users: encoders of the user features, likewise.
        labels: encoders of the further labels, likewise.

    """

    entities: pl.DataFrame
    items: pl.DataFrame
    cutoff: int | None
    has_time: bool
    context: list[Encoder]
    users: list[Encoder]
    labels: list[Encoder]

    @property
    def of_events(self) -> list[tuple[str, Encoder]]:
        """The columns of events beside item, label and time, with their encoders."""
        context = [(f"context.{one.field.name}", one) for one in self.context]
        return context + [(f"label.{one.field.name}", one) for one in self.labels]


def bucket_table(rows: pl.DataFrame, plan: BucketPlan) -> pa.Table:
    """Return the table of a bucket, sorted by task id, from its deduplicated rows."""
    known = plan.entities.join(rows.select("entity").unique(), on="entity", how="semi")
    flat = rows.join(known.select("entity", "task_id"), on="entity", maintain_order="left")
    flat = flat.rename({"item": "id"}).join(plan.items, on="id", maintain_order="left")
    clock = ["time"] if plan.has_time else []
    # Numbers of items order ties as raw ids do, so the rows are still sorted.
    columns = ["item", "label", *clock]
    encoded = [
        encode.encode(flat[name], encoder, place=f"data.{name}").alias(name)
        for name, encoder in plan.of_events
    ]
    flat = flat.select("task_id", *columns).with_columns(encoded)
    lists = flat.group_by("task_id", maintain_order=True).agg(pl.all())
    whole = known.join(lists, on="task_id", maintain_order="left").sort("task_id")
    schema = _schema(plan)
    return whole.select(schema.names).to_arrow().cast(schema).combine_chunks()


def _schema(plan: BucketPlan) -> pa.Schema:
    fields: list[tuple[str, pa.DataType]] = [
        ("task_id", pa.int64()),
        ("part", pa.string()),
        ("item", pa.list_(pa.int64())),
        ("label", pa.list_(pa.float32())),
    ]
    if plan.has_time:
        fields.append(("time", pa.list_(pa.int64())))
    fields += [(f"user.{one.field.name}", encode.ARROW[one.field.kind]) for one in plan.users]
    fields += [(name, pa.list_(encode.ARROW[one.field.kind])) for name, one in plan.of_events]
    return pa.schema(fields)
