"""Which entities are held out for validation and test, and which items are: by time, or by hash.

Knows first events of entities and items; does not know rows or buckets.
"""

import numpy as np
import polars as pl

from metarec_ray.data.settings import Data
from metarec_ray.data.store import id_hashes
from metarec_ray.data.store.bucket_rows import first_met


def parts(
    entities: pl.DataFrame, settings: Data, *, has_time: bool
) -> tuple[pl.Series, int | None]:
    """Return each entity's part, and the cutoff; `entities` is sorted by task id.

    With a clock the last to begin are held out; without one, or by `split`, a hash of the raw id
    decides. Nothing is cut in time by hash, nor without test entities.
    """
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
