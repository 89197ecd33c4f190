"""Events from outside a task store, converted to its catalogue rows and features.

Knows data frames of raw ids and a store's vocabularies; does not know which events are needed.
"""

import numpy as np
import polars as pl
import torch

from metarec_ray.core.batch import SideInformation
from metarec_ray.core.histories import Histories
from metarec_ray.data.log.features import encode
from metarec_ray.data.log.features.encode import Encoder
from metarec_ray.data.tasks.features import FeatureSpace
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError


def histories_of(events: pl.DataFrame, store: TaskStore) -> tuple[Histories, list[str]]:
    """Return the histories of a frame's entities, and their raw ids, in the order of its rows.

    Entities and events have no features.

    Args:
        events: entity and item (raw ids as strings), label, maybe time; the rows of an entity stand
            together.
        store: its catalogue must hold every item.

    """
    rows = {raw: row for row, raw in enumerate(store.items.ids)}
    item = [rows.get(raw, -1) for raw in events["item"].to_list()]
    if -1 in item:
        raise DataError(
            f"items of tasks must be in the store's catalogue, {events['item'][item.index(-1)]!r} "
            f"is not ({store.path})"
        )
    sizes = events.group_by("entity", maintain_order=True).len()
    ends = np.cumsum(sizes["len"].to_numpy().astype(np.int64))
    n = len(sizes)
    time = events["time"].to_numpy() if "time" in events.columns else np.zeros(len(events))
    found = Histories(
        task_id=torch.arange(n),
        offsets=torch.from_numpy(np.concatenate([[0], ends]).astype(np.int64)),
        item=torch.tensor(item, dtype=torch.int64),
        label=torch.from_numpy(events["label"].cast(pl.Float32).to_numpy().copy()),
        time=torch.from_numpy(time.astype(np.int64)),
        context=_all_missing(store.context_space, len(events)).features,
        users=_all_missing(store.user_space, n),
        items=store.item_space.side(store.items.features),
        cutoff=store.manifest.cutoff,
        labels=torch.full((len(events), len(store.label_space.names)), torch.nan),
    )
    return found, sizes["entity"].to_list()


def entity_features(
    store: TaskStore, table: pl.DataFrame | None, ids: list[str]
) -> SideInformation:
    """Return what is known of entities, by the vocabularies of the store.

    Args:
        store: any one with these features.
        table: `id` and features in canonical columns; an entity without a row has no features.
        ids: raw ids.

    """
    if table is None:
        return _all_missing(store.user_space, len(ids))
    named = pl.DataFrame({"id": ids}, schema={"id": pl.String})
    known = named.join(
        table.with_columns(pl.col("id").cast(pl.String)), on="id", how="left", maintain_order="left"
    )
    columns = {}
    for field in store.user_space.fields:
        using = Encoder(field, store.vocabularies["user"].get(field.name, []))
        columns[field.name] = encode.encode(known[field.name], using).to_arrow()
    return store.user_space.side(store.user_space.encode(columns, len(ids)))


def _all_missing(space: FeatureSpace, n: int) -> SideInformation:
    """Return n entities whose fields are all missing."""
    return space.side(space.missing().at(torch.zeros(n, dtype=torch.int64)))
