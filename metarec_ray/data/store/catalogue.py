"""What concerns the whole log: ranks of ids, the cut in time, parts, vocabularies.

Knows summaries of buckets and the side tables; does not know rows, files or workers.
"""

from typing import NamedTuple

import polars as pl
import pyarrow as pa

from metarec_ray.data.fields import COLD
from metarec_ray.data.log import encode, sessions
from metarec_ray.data.log.encode import Encoder, Seen
from metarec_ray.data.settings import DOMAIN, Data, Feature
from metarec_ray.data.store import split
from metarec_ray.data.store.bucket_files import Plan
from metarec_ray.data.store.bucket_rows import Look, Summary
from metarec_ray.errors import DataError


class Outline(NamedTuple):
    """The whole log before encoding.

    Attributes:
        entities: entity, task_id, part, bucket, first, events; sorted by task_id.
        cutoff: microseconds; None where nothing is cut in time.
        has_time: whether the log has a clock.
        cold: item: the raw ids held out of training.

    """

    entities: pl.DataFrame
    cutoff: int | None
    has_time: bool
    cold: pl.DataFrame


class SideTables(NamedTuple):
    """Tables of users and of items in canonical columns, None where there is none."""

    users: pl.DataFrame | None
    items: pl.DataFrame | None


class Known(NamedTuple):
    """What an older version has settled, which a newer one keeps.

    Attributes:
        entities: entity, task_id.
        items: id, item.
        encoders: of the features of user, item and context, by name.

    """

    entities: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    encoders: dict[str, dict[str, Encoder]] = {}  # noqa: RUF012


NOTHING = Known()


class Catalogue(NamedTuple):
    """Items as they are written: item, id, title, features; and their encoders."""

    table: pa.Table
    encoders: list[Encoder]


def outline(
    summaries: list[Summary], settings: Data, *, has_time: bool, known: Known = NOTHING
) -> Outline:
    """Give every entity its part and a number: the known one, or after these by rank."""
    if not any(len(summary.entities) for summary in summaries):
        raise DataError(
            f"a log must have events left, all rows were filtered or bad ({settings.path})"
        )
    numbered = enumerate(summaries)
    entities = pl.concat([one.entities.with_columns(bucket=number) for number, one in numbered])
    entities = _numbered(entities, "entity", "task_id", known.entities)
    part, cutoff = split.parts(entities, settings, has_time=has_time)
    counts = {name: int((part == name).sum()) for name in ("train", "valid", "test")}
    wanted = ("train", "valid", "test") if settings.cutoff_quantile < 1 else ("train", "valid")
    if min(counts[name] for name in wanted) == 0:
        found = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise DataError(
            f"a log must have entities enough for {', '.join(wanted[:-1])} and {wanted[-1]}, "
            f"got {len(entities)}: {found} ({settings.path})"
        )
    items = pl.concat([summary.items for summary in summaries])
    _refuse_two_domains(items, settings.path)
    bare = items.drop(DOMAIN, strict=False)
    cold = split.cold_items(bare, settings, has_time=has_time)
    return Outline(entities.with_columns(part=part), cutoff, has_time, cold)


def plan(
    found: Outline,
    summaries: list[Summary],
    looks: list[Look],
    *,
    settings: Data,
    tables: SideTables,
    known: Known = NOTHING,
) -> tuple[Plan, Catalogue]:
    """Return what buckets must know, and the items; `looks` are of training rows, by bucket.

    They need not be there where neither context nor items have features.
    """
    trained = pl.concat([found.cold.clear(), *(look.items for look in looks)]).unique()
    ids = [summary.items.select(pl.col("item").alias("id")) for summary in summaries]
    if tables.items is not None:
        ids.append(tables.items.select("id"))
    if known.items is not None:
        ids.append(known.items.select("id"))
    ranked = _numbered(pl.concat(ids).unique(), "id", "item", known.items)
    held = _joined(ranked, tables.items, pl.concat([one.items for one in summaries]))
    catalogue = _catalogue(held, trained, settings, known)
    if settings.cold_items:
        cold = ranked["id"].is_in(found.cold["item"].implode())
        marked = catalogue.table.append_column(COLD, cold.to_arrow())
        catalogue = catalogue._replace(table=marked)
    entities, user_encoders = _users(found, settings, tables.users, known)
    context = [
        encode.encoder(
            name,
            feature,
            _merged(name, looks),
            f"data.context.{name}",
            known=known.encoders.get("context", {}).get(name),
        )
        for name, feature in sorted(settings.context.items())
    ]
    whole = Plan(entities, ranked, found.cutoff, found.has_time, context, user_encoders)
    return whole, catalogue


def vocabularies(plan: Plan, catalogue: Catalogue) -> dict[str, dict[str, list[str]]]:
    """Return the vocabularies of the (multi-)categorical features by side and name."""
    sides = {"user": plan.users, "item": catalogue.encoders, "context": plan.context}
    return {
        side: {e.field.name: e.vocabulary for e in encoders if e.field.kind.endswith("categorical")}
        for side, encoders in sides.items()
    }


def _merged(name: str, looks: list[Look]) -> Seen:
    whole = Seen()
    for look in looks:
        whole = whole.merge(look.seen[name])
    return whole


def _numbered(frame: pl.DataFrame, key: str, name: str, known: pl.DataFrame | None) -> pl.DataFrame:
    """Return the rows in the order of their numbers: those that are known, then new ones by key."""
    if known is None:
        return frame.sort(key).with_row_index(name).cast({name: pl.Int64})
    old = frame.join(known, on=key).sort(name)
    new = frame.join(known, on=key, how="anti").sort(key)
    numbered = new.with_row_index(name, offset=len(known)).cast({name: pl.Int64})
    return pl.concat([old.select(numbered.columns), numbered])


def _encoded(
    whole: pl.DataFrame,
    learned: pl.DataFrame,
    features: dict[str, Feature],
    *,
    known: dict[str, Encoder],
    place: str,
) -> tuple[list[Encoder], list[pl.Series]]:
    """Return how features are written, as rows that are learned from hold them; and all of them."""
    encoders, columns = [], []
    for name, feature in sorted(features.items()):
        named = f"{place}.features.{name}"
        seen = encode.look(learned[name], feature)
        encoder = encode.encoder(name, feature, seen, named, known=known.get(name))
        encoders.append(encoder)
        columns.append(encode.encode(whole[name], encoder, place=named).alias(name))
    return encoders, columns


def _users(
    found: Outline, settings: Data, users: pl.DataFrame | None, known: Known
) -> tuple[pl.DataFrame, list[Encoder]]:
    """Encode user features by the vocabularies of entities that are not held out for test."""
    entities = found.entities
    table = settings.sides[0]
    if users is None or table is None:
        return entities, []
    whose = pl.col("entity")
    if settings.session_gap is not None:
        whose = sessions.of(whose, users["id"].dtype)
    joined = entities.join(users, left_on=whose, right_on="id", how="left").sort("task_id")
    trained = joined.filter(pl.col("part") != "test")
    encoders, columns = _encoded(
        joined,
        trained,
        table.features,
        known=known.encoders.get("user", {}),
        place=f"data.{settings.side_names[0]}",
    )
    named = [column.alias(f"user.{column.name}") for column in columns]
    return entities.sort("task_id").with_columns(named), encoders


def _refuse_two_domains(items: pl.DataFrame, path: str) -> None:
    if DOMAIN not in items.columns:
        return
    kinds = _domains(items)
    twice = kinds.filter(pl.col("item").is_duplicated()).sort("item", DOMAIN)
    if len(twice):
        (item, one), (_, other) = twice.rows()[:2]
        raise DataError(
            f"an item must lie in one domain (data.columns.domain), got {item!r} in {one!r} and in "
            f"{other!r} ({path}); what changes from event to event is data.context"
        )


def _domains(items: pl.DataFrame) -> pl.DataFrame:
    """Return each item once with each domain that is known of it."""
    return items.drop_nulls(DOMAIN).select("item", DOMAIN).unique()


def _joined(ranked: pl.DataFrame, table: pl.DataFrame | None, met: pl.DataFrame) -> pl.DataFrame:
    """Return id, item, title and raw features of every item, in the order of their numbers."""
    bare = ranked.with_columns(title=pl.lit(None, pl.String))
    joined = bare if table is None else ranked.join(table, on="id", how="left")
    if DOMAIN in met.columns:
        joined = joined.join(_domains(met), left_on="id", right_on="item", how="left")
    return joined.sort("item")


def _catalogue(
    joined: pl.DataFrame, trained: pl.DataFrame, settings: Data, known: Known
) -> Catalogue:
    """Encode item features by the vocabularies of items that training rows hold."""
    fields = [("item", pa.int64()), ("id", pa.string()), ("title", pa.string())]
    learned = joined.join(trained, left_on="id", right_on="item", how="semi").sort("item")
    encoders, columns = _encoded(
        joined,
        learned,
        settings.held_features,
        known=known.encoders.get("item", {}),
        place=f"data.{settings.side_names[1]}",
    )
    fields += [(e.field.name, encode.ARROW[e.field.kind]) for e in encoders]
    whole = joined.select("item", pl.col("id").cast(pl.String), "title").with_columns(columns)
    return Catalogue(whole.to_arrow().cast(pa.schema(fields)).combine_chunks(), encoders)
