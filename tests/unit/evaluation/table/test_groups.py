from pathlib import Path

from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.table.groups import groups_of


def test_groups_are_thirds_by_activity_and_values_of_features(synthetic_store: Path) -> None:
    store = TaskStore.open(synthetic_store)
    tasks = {str(task): task for task in store.histories(("test",), cut=False).task_id.tolist()}
    groups = groups_of(store, tasks)
    sizes = [len(members) for members in groups["activity"].values()]
    assert sum(sizes) == len(tasks)
    assert max(sizes) - min(sizes) <= 1
    assert set.union(*groups["age"].values()) <= set(tasks)
