"""From a task store to the histories that learners are fitted on."""

from collections.abc import Sequence

from metarec_ray.algorithms.base import Histories
from metarec_ray.data.tasks.task_store import TaskStore


def read_histories(store: TaskStore, parts: Sequence[str]) -> Histories:
    """Return the histories of the entities of `parts`, cut at the cutoff."""
    table = store.histories(parts)
    return Histories(
        offsets=table.offsets,
        item=table.item,
        label=table.label,
        time=table.time,
        n_items=len(store.items.ids),
        cutoff=store.manifest.cutoff,
        users=store.user_space.side(table.user),
        items=store.item_space.side(store.items.features),
    )
