"""The store of an experiment, brought up to date before anything reads it.

Knows which store an experiment reads; does not know how one is built.
"""

import os
from pathlib import Path

from metarec_ray.config.experiment import Experiment
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster import access
from metarec_ray.engine.prepare.driver import Progress, prepare
from metarec_ray.errors import ConfigError
from metarec_ray.storage.places import at_hand


def ensure_store(experiment: Experiment, *, data_dir: Path | None, progress: Progress) -> TaskStore:
    """Return the experiment's store; prepares it if its log or its settings have changed.

    A store named by `run.store` belongs to another run and is taken as it is.
    """
    if experiment.run.store is not None:
        path = at_hand(experiment.run.store)
    else:
        path = experiment.store
        prepare(experiment.data, path, data_dir=data_dir, progress=progress)
    store = TaskStore.open(path, cache=access.cache(os.environ, path))
    if store.manifest.feedback != experiment.data.feedback:
        raise ConfigError(
            f"data.feedback must be that of the store, {store.manifest.feedback}, "
            f"got {experiment.data.feedback} ({path})"
        )
    return store
