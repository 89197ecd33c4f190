"""The protocol `item_kshot`: ratings of a new item after its first k.

Knows stores whose entities are items (`data.entity: item`): a task is of a new item, and its events
are users. The ratings of an item by users of training are shuffled with the seed; the first k are
the support, those after the largest k are the query, the same at every k. Does not know what
predicts.
"""

import numpy as np
import polars as pl
import torch

from metarec_ray.core.histories import Histories
from metarec_ray.data.protocol_settings import ItemKshot
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError
from metarec_ray.evaluation.protocols.events import first_meetings
from metarec_ray.evaluation.protocols.frames import entity_features, histories_of
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
    raters, ids = _new_items(store, events, items)
    chosen = (raters.lengths() >= settings.min_ratings).nonzero().squeeze(1)
    _check_size(len(chosen), settings, force)
    drawn, window = _drawn(raters.take(chosen), seed), max(settings.ks)
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
) -> tuple[Histories, list[str]]:
    """Return the ratings of the new items by users that training knows, and the items' raw ids."""
    if events is None:
        raters, known = store.histories(("test",), cut=False), store.entity_ids()
        ids = [known[task] for task in raters.task_id.tolist()]
    else:
        raters, ids = _of_frame(events, store)
        _check_new(ids, store)
        raters = raters._replace(users=entity_features(store, items, ids))
    trained = store.trained_items()
    return raters.keep(first_meetings(raters, trained[raters.item])), ids


def _drawn(raters: Histories, seed: int) -> Histories:
    """Return the histories with the ratings of each item in a random order."""
    generator = np.random.default_rng(_STREAM + seed)
    starts, sizes = raters.offsets[:-1].tolist(), raters.lengths().tolist()
    places = [
        start + generator.permutation(size) for start, size in zip(starts, sizes, strict=True)
    ]
    return raters.reorder(torch.from_numpy(np.concatenate(places)))


def _of_frame(events: pl.DataFrame, store: TaskStore) -> tuple[Histories, list[str]]:
    """Return the ratings by users that are in the store's catalogue, oldest first."""
    clock = ["time"] if "time" in events.columns else []
    ordered = events.sort("entity", *clock, "sequence", "item").with_columns(
        pl.col("entity", "item").cast(pl.String)
    )
    return histories_of(ordered.filter(pl.col("item").is_in(store.items.ids)), store)


def _check_new(ids: list[str], store: TaskStore) -> None:
    known, training = store.entity_ids(), store.histories(TRAINING)
    met = {known[task] for task in training.task_id[training.lengths() > 0].tolist()}
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
