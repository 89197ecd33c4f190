"""Groups of entities and the gaps between their means: which groups are served worse.

Knows the features of a store and how active an entity is; does not know what was measured.
"""

from collections.abc import Mapping

import torch

from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.table.runs import RATINGS, Runs, Target

SMALLEST = 20  # entities; the mean of fewer is mostly noise
LARGEST_VOCABULARY = 12  # values of a field that is still split into groups
ACTIVITY = ("low", "middle", "high")

Groups = Mapping[str, Mapping[str, set[str]]]
"""Field -> group -> names of its entities."""


def groups_of(store: TaskStore, tasks: Mapping[str, int]) -> dict[str, dict[str, set[str]]]:
    """Return the groups of entities: thirds by activity, and one per value of categorical fields.

    Activity is the number of events of the whole history. It is not known when an entity is served,
    so it may explain results but not decide anything. Fields with many values are left out.

    Args:
        store: holds the entities.
        tasks: name of an entity -> its task id.

    """
    fields = [
        field.name
        for field in store.manifest.features["user"]
        if field.kind == "categorical" and field.size <= LARGEST_VOCABULARY
    ]
    found: dict[str, dict[str, set[str]]] = {"activity": _thirds(store, tasks)}
    for name, task in tasks.items() if fields else ():
        known = store.user_fields(task)
        for field in fields:
            if field in known:
                found.setdefault(field, {}).setdefault(known[field], set()).add(name)
    return {
        field: dict(sorted(groups.items())) for field, groups in found.items() if len(groups) > 1
    }


def group_means(one: Runs, target: Target, groups: Groups) -> dict[str, dict[str, float]]:
    """Return `groups`, the mean of each `field=value`, and `gaps`, the largest minus the smallest.

    Means of the target's metric; of a squared error their root. Groups of fewer than `SMALLEST`
    entities are left out. {} without groups.
    """
    means: dict[str, float] = {}
    gaps: dict[str, float] = {}
    for field, members in groups.items():
        found: dict[str, float] = {}
        for value, names in members.items():
            inside = torch.tensor([name in names for name in one.entity])
            if inside.sum() >= SMALLEST:
                level = one.sample(target.metric).at(inside).mean()
                found[value] = level**0.5 if target is RATINGS else level
        means |= {f"{field}={value}": level for value, level in found.items()}
        if len(found) > 1:
            gaps[field] = max(found.values()) - min(found.values())
    return {"groups": means, "gaps": gaps} if groups else {}


def _thirds(store: TaskStore, tasks: Mapping[str, int]) -> dict[str, set[str]]:
    histories = store.histories(cut=False)
    lengths = dict(zip(histories.task_id.tolist(), histories.lengths().tolist(), strict=True))
    ordered = sorted(tasks, key=lambda name: (lengths[tasks[name]], tasks[name]))
    ends = [round(i * len(ordered) / len(ACTIVITY)) for i in range(len(ACTIVITY) + 1)]
    return {
        name: set(ordered[low:high])
        for name, low, high in zip(ACTIVITY, ends, ends[1:], strict=False)
    }
