"""The protocol `item_kshot`: ratings of a new item after its first k.

Knows stores whose entities are items (`data.entity: item`): a task is of a new item, and its events
are users. The ratings of an item by users of training are shuffled with the seed; the first k are
the support, those after the largest k are the query, the same at every k. Does not know what
predicts.
"""

import numpy as np
import polars as pl
import torch
from torch import Tensor

from metarec_ray.core.batch import entity_of
from metarec_ray.data.protocol_settings import ItemKshot
from metarec_ray.data.tasks.task_store import HistoryTable, TaskStore
from metarec_ray.errors import DataError
from metarec_ray.evaluation.protocols.events import first_meetings, select
from metarec_ray.evaluation.protocols.frames import entity_features, history_table
from metarec_ray.evaluation.protocols.ratings import RatingTasks, cut, require_entity
from metarec_ray.evaluation.protocols.strict import MIN_ENTITIES, TRAINING

SCENARIO = "item_kshot"
_STREAM = 5000  # so that other protocols with the same seed are shuffled differently


def kshot_tasks(
    store: TaskStore,
    settings: ItemKshot,
    *,
    seed: int,
    events: pl.DataFrame | None = None,
    items: pl.DataFrame | None = None,
    force: bool = False,
) -> RatingTasks:
    """Return the tasks of the new items with enough ratings.

    Args:
        store: its entities are items.
        settings: of the protocol.
        seed: of the shuffle.
        events: ratings of the new items in canonical columns (`settings.rows`); None for those of
            the store's test entities.
        items: `id` and features of the new items in canonical columns, read with `events`.
        force: also take fewer than 100 tasks.

    Raises:
        ConfigError: the entities of the store are not items.
        DataError: too few items have enough ratings, or training has one of them.

    """
    require_entity(store, "item")
    table, ids = _new_items(store, events, items)
    chosen = (table.lengths() >= settings.min_ratings).nonzero().squeeze(1)
    _check_size(len(chosen), settings, force)
    drawn, window = _drawn(_only(table, chosen), seed), max(settings.ks)
    return cut(
        SCENARIO,
        [ids[i] for i in chosen.tolist()],
        drawn,
        support=torch.full((len(chosen),), window),
        query=(drawn.lengths() - window).clamp(max=settings.query_size),
        now=store.context_space.missing(),
    )


def _new_items(
    store: TaskStore, events: pl.DataFrame | None, items: pl.DataFrame | None
) -> tuple[HistoryTable, list[str]]:
    """Return the ratings of the new items by users of training, and the items' raw ids."""
    if events is None:
        table, known = store.histories(("test",), cut=False), store.entity_ids()
        ids = [known[task] for task in table.task_id.tolist()]
    else:
        table, ids = _of_frame(events, store)
        _check_new(ids, store)
        table = table._replace(user=entity_features(store, items, ids))
    trained = store.trained_items()
    kept = first_meetings(table.offsets, table.item, trained[table.item], len(trained))
    return table.keep(kept), ids


def _only(table: HistoryTable, entities: Tensor) -> HistoryTable:
    """Return the table of some entities, indices [E'] ascending."""
    chosen = torch.zeros(len(table.task_id), dtype=torch.bool).index_fill_(0, entities, True)
    rows = chosen[entity_of(table.offsets)].nonzero().squeeze(1)
    return select(table, entities, rows, table.lengths()[entities])


def _drawn(table: HistoryTable, seed: int) -> HistoryTable:
    """Return the table with the ratings of each item in a drawn order."""
    generator = np.random.default_rng(_STREAM + seed)
    starts, sizes = table.offsets[:-1].tolist(), table.lengths().tolist()
    places = [
        start + generator.permutation(size) for start, size in zip(starts, sizes, strict=True)
    ]
    order = torch.from_numpy(np.concatenate(places))
    return select(table, torch.arange(len(sizes)), order, table.lengths())


def _of_frame(events: pl.DataFrame, store: TaskStore) -> tuple[HistoryTable, list[str]]:
    """Return the ratings by users in the store's catalogue, oldest first."""
    clock = ["time"] if "time" in events.columns else []
    ordered = events.sort("entity", *clock, "sequence", "item").with_columns(
        pl.col("entity", "item").cast(pl.String)
    )
    return history_table(ordered.filter(pl.col("item").is_in(store.items.ids)), store)


def _check_new(ids: list[str], store: TaskStore) -> None:
    known, table = store.entity_ids(), store.histories(TRAINING)
    met = {known[task] for task in table.task_id[table.lengths() > 0].tolist()}
    leaked = [raw for raw in ids if raw in met]
    if leaked:
        raise DataError(
            f"new items must not be in training, {len(leaked)} of {len(ids)} are: {leaked[0]!r} "
            "(evaluate.item_kshot.rows, data.only)"
        )


def _check_size(found: int, settings: ItemKshot, force: bool) -> None:
    if found == 0 or (found < MIN_ENTITIES and not force):
        raise DataError(
            f"the item_kshot protocol needs {MIN_ENTITIES} new items with >= "
            f"{settings.min_ratings} ratings by users that training knows, got {found} "
            "(evaluate.force takes fewer)"
        )
