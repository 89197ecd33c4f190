"""The plan of a store: numbers of ids, encoded features, the catalogue of items.

Knows summaries of buckets, the split and the side tables; does not know rows, files or workers.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from metarec_ray.data.fields import COLD, Side
from metarec_ray.data.log import sessions
from metarec_ray.data.log.features import encode
from metarec_ray.data.log.features.encode import ColumnStats, Encoder
from metarec_ray.data.settings import DOMAIN, Data, Feature
from metarec_ray.data.store.bucket_files import BucketPlan
from metarec_ray.data.store.bucket_rows import Summary, item_domains
from metarec_ray.data.store.mappings import NO_MAPPINGS, Mappings, numbered
from metarec_ray.data.store.split import Split
from metarec_ray.data.store.training_rows import TrainingSummary


class SideTables(NamedTuple):
    """Tables of users and of items in canonical columns, None where there is none."""

    users: pl.DataFrame | None
    items: pl.DataFrame | None


class WholeLog(NamedTuple):
    """What is known of a log once all its buckets are grouped.

    Attributes:
        split: of the log.
        buckets: summary of each bucket; at least one of them must have all items.
        training: of the training rows of each bucket, in order; may be empty where neither events
            nor items have features.
        tables: beside the log.

    """

    split: Split
    buckets: Sequence[Summary]
    training: Sequence[TrainingSummary]
    tables: SideTables


class Catalogue(NamedTuple):
    """Items as they are written: item, id, title, features; and the encoders of these."""

    table: pa.Table
    encoders: list[Encoder]


class StorePlan(NamedTuple):
    """What is written: by the buckets, and of the items."""

    buckets: BucketPlan
    catalogue: Catalogue

    def vocabularies(self) -> dict[str, dict[str, list[str]]]:
        """Return the vocabularies of the (multi-)categorical features by side and name."""
        return {
            side: {
                one.field.name: one.vocabulary
                for one in encoders
                if one.field.kind.endswith("categorical")
            }
            for side, encoders in self.encoders().items()
        }

    def encoders(self) -> dict[Side, list[Encoder]]:
        """Return the encoders of all features by side, in the order of their names."""
        found: dict[Side, list[Encoder]] = {
            "user": self.buckets.users,
            "item": self.catalogue.encoders,
            "context": self.buckets.context,
        }
        if self.buckets.labels:
            found["label"] = self.buckets.labels
        return found


def plan_store(log: WholeLog, settings: Data, *, mappings: Mappings = NO_MAPPINGS) -> StorePlan:
    """Return the plan; numbers and vocabularies of `mappings` stay, new ones follow.

    Raises:
        DataError: vectors of one feature have different lengths.

    """
    items = _numbered_items(log, mappings)
    catalogue = _catalogue(items, log, settings, mappings=mappings)
    users, user_encoders = _users(log, settings, mappings)
    context, labels = (
        _of_events(side, log, settings, mappings.encoders.get(side, {}))
        for side in ("context", "label")
    )
    split = log.split
    buckets = BucketPlan(users, items, split.cutoff, split.has_time, context, user_encoders, labels)
    return StorePlan(buckets, catalogue)


def _of_events(
    side: str, log: WholeLog, settings: Data, known: Mapping[str, Encoder]
) -> list[Encoder]:
    """Return the encoders of the columns `<side>.<name>` of events, in the order of their names."""
    found = []
    for column, feature in settings.event_features.items():
        own, _, name = column.partition(".")
        if own == side:
            stats = ColumnStats().merge(*(summary.columns[column] for summary in log.training))
            place = f"data.{column}"
            found.append(
                encode.make_encoder(name, feature, stats, place=place, known=known.get(name))
            )
    return found


def _numbered_items(log: WholeLog, mappings: Mappings) -> pl.DataFrame:
    """Return id and item: of all items that are met, in the table, or of an older version."""
    ids = [summary.items.select(pl.col("item").alias("id")) for summary in log.buckets]
    if log.tables.items is not None:
        ids.append(log.tables.items.select("id"))
    if mappings.items is not None:
        ids.append(mappings.items.select("id"))
    return numbered(pl.concat(ids).unique(), "id", "item", known=mappings.items)


def _users(log: WholeLog, settings: Data, mappings: Mappings) -> tuple[pl.DataFrame, list[Encoder]]:
    """Return the entities with their features, encoded as those not held out for test have them."""
    entities, table = log.split.entities, settings.sides[0]
    if log.tables.users is None or table is None:
        return entities, []
    user = pl.col("entity")
    if settings.session_gap is not None:
        user = sessions.entity_of(user, log.tables.users["id"].dtype)
    joined = entities.join(log.tables.users, left_on=user, right_on="id", how="left")
    joined = joined.sort("task_id")
    encoders, columns = _encoded(
        joined,
        joined.filter(pl.col("part") != "test"),
        table.features,
        known=mappings.encoders.get("user", {}),
        place=f"data.{settings.side_names[0]}",
    )
    named = [column.alias(f"user.{column.name}") for column in columns]
    return entities.sort("task_id").with_columns(named), encoders


def _catalogue(
    items: pl.DataFrame, log: WholeLog, settings: Data, *, mappings: Mappings
) -> Catalogue:
    """Return the items with their features, encoded as those that training rows hold have them."""
    cold = log.split.cold
    joined = _raw_items(items, log)
    trained = pl.concat([cold.clear(), *(one.items for one in log.training)]).unique()
    encoders, columns = _encoded(
        joined,
        joined.join(trained, left_on="id", right_on="item", how="semi").sort("item"),
        settings.held_features,
        known=mappings.encoders.get("item", {}),
        place=f"data.{settings.side_names[1]}",
    )
    fields = [("item", pa.int64()), ("id", pa.string()), ("title", pa.string())]
    fields += [(one.field.name, encode.ARROW[one.field.kind]) for one in encoders]
    whole = joined.select("item", pl.col("id").cast(pl.String), "title").with_columns(columns)
    table = whole.to_arrow().cast(pa.schema(fields)).combine_chunks()
    if settings.cold_items:
        table = table.append_column(COLD, items["id"].is_in(cold["item"].implode()).to_arrow())
    return Catalogue(table, encoders)


def _raw_items(items: pl.DataFrame, log: WholeLog) -> pl.DataFrame:
    """Return id, item, title and raw features of every item, in the order of their numbers."""
    table = log.tables.items
    if table is None:
        joined = items.with_columns(title=pl.lit(None, pl.String))
    else:
        joined = items.join(table, on="id", how="left")
    met = pl.concat([one.items for one in log.buckets])
    if DOMAIN in met.columns:
        joined = joined.join(item_domains(met), left_on="id", right_on="item", how="left")
    return joined.sort("item")


def _encoded(
    rows: pl.DataFrame,
    trained: pl.DataFrame,
    features: Mapping[str, Feature],
    *,
    known: Mapping[str, Encoder],
    place: str,
) -> tuple[list[Encoder], list[pl.Series]]:
    """Return encoders that are made of the `trained` rows, and the encoded columns of all rows."""
    encoders, columns = [], []
    for name, feature in sorted(features.items()):
        named = f"{place}.features.{name}"
        stats = encode.column_stats(trained[name], feature)
        encoder = encode.make_encoder(name, feature, stats, place=named, known=known.get(name))
        encoders.append(encoder)
        columns.append(encode.encode(rows[name], encoder, place=named).alias(name))
    return encoders, columns
