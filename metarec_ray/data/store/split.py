"""The split of a log: entities held out for validation and test, items held out of training.

By time, or by a hash of the raw id. Knows summaries of buckets; does not know rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from metarec_ray.data import id_hashes
from metarec_ray.data.settings import DOMAIN, Data
from metarec_ray.data.store.bucket_rows import Summary, first_met, item_domains
from metarec_ray.data.store.mappings import NO_MAPPINGS, Mappings, numbered
from metarec_ray.errors import DataError


class Split(NamedTuple):
    """What may be learned from, over the whole log.

    Attributes:
        entities: entity, task_id, part, bucket, first, events; sorted by task_id.
        cutoff: microseconds; None where nothing is cut in time.
        has_time: whether the log has a clock.
        cold: item: the raw ids held out of training.
        held_last: number of last events of each entity that are held out.

    """

    entities: pl.DataFrame
    cutoff: int | None
    has_time: bool
    cold: pl.DataFrame
    held_last: int = 0


def split_log(
    summaries: Sequence[Summary],
    settings: Data,
    *,
    has_time: bool,
    mappings: Mappings = NO_MAPPINGS,
) -> Split:
    """Return each entity with its part and its number: of `mappings`, or after these by rank.

    Args:
        summaries: of all buckets, in order.
        settings: of the log.
        has_time: whether it has a clock.
        mappings: of the previous version.

    Raises:
        DataError: no event is left, too few entities, or an item in two domains.

    """
    if not any(len(summary.entities) for summary in summaries):
        raise DataError(
            f"a log must have events left, all rows were filtered or bad ({settings.path})"
        )
    pairs = enumerate(summaries)
    entities = pl.concat([one.entities.with_columns(bucket=bucket) for bucket, one in pairs])
    entities = numbered(entities, "entity", "task_id", known=mappings.entities)
    part, cutoff = parts(entities, settings, has_time=has_time)
    _refuse_empty_parts(part, settings)
    items = pl.concat([summary.items for summary in summaries])
    _refuse_two_domains(items, settings.path)
    cold = cold_items(items.drop(DOMAIN, strict=False), settings, has_time=has_time)
    return Split(entities.with_columns(part=part), cutoff, has_time, cold, settings.held_last)


def parts(
    entities: pl.DataFrame, settings: Data, *, has_time: bool
) -> tuple[pl.Series, int | None]:
    """Return each entity's part, and the cutoff; `entities` is sorted by task id.

    With a clock the last to begin are held out. Without one, or with `split: hash`, a hash of the
    raw id decides. Nothing is cut in time with a hash, nor without test entities. With `split:
    last` no entity is held out.
    """
    if settings.split == "last":
        return pl.Series(["train"] * len(entities), dtype=pl.String), None
    quantile, share = settings.cutoff_quantile, settings.valid_share
    if not has_time or settings.split == "hash":
        place = id_hashes.unit_hashes(entities["entity"])
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


def cold_items(items: pl.DataFrame, settings: Data, *, has_time: bool) -> pl.DataFrame:
    """Return the `item`s held out of training; `items` (item, first) may repeat over buckets."""
    whole = first_met([items])
    if not settings.cold_items:
        return whole.clear().select("item")
    if not has_time or settings.split == "hash":
        place = pl.Series(id_hashes.unit_hashes(whole["item"]))
        return whole.filter(place >= 1 - settings.cold_items).select("item")
    begins = np.quantile(whole["first"].to_numpy(), 1 - settings.cold_items, method="higher")
    return whole.filter(pl.col("first") >= int(begins)).select("item")


def _refuse_empty_parts(part: pl.Series, settings: Data) -> None:
    if settings.held_last:
        return
    counts = {name: int((part == name).sum()) for name in ("train", "valid", "test")}
    needed = ("train", "valid", "test") if settings.cutoff_quantile < 1 else ("train", "valid")
    if min(counts[name] for name in needed) == 0:
        found = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise DataError(
            f"a log must have entities enough for {', '.join(needed[:-1])} and {needed[-1]}, "
            f"got {len(part)}: {found} ({settings.path})"
        )


def _refuse_two_domains(items: pl.DataFrame, path: str) -> None:
    if DOMAIN not in items.columns:
        return
    pairs = item_domains(items)
    twice = pairs.filter(pl.col("item").is_duplicated()).sort("item", DOMAIN)
    if len(twice):
        (item, one), (_, other) = twice.rows()[:2]
        raise DataError(
            f"an item must lie in one domain (data.columns.domain), got {item!r} in {one!r} and in "
            f"{other!r} ({path}); what changes from event to event is data.context"
        )
