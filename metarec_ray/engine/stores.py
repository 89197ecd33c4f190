"""The store of an experiment, brought up to date before anything reads it.

Knows when preparing needs a Ray session and when there is nothing to do.
"""

from pathlib import Path

from metarec_ray.config import Experiment
from metarec_ray.data.task_store import TaskStore
from metarec_ray.engine.prepare import Progress, prepare, up_to_date
from metarec_ray.engine.session import ray_session
from metarec_ray.errors import ConfigError


def ensure_store(experiment: Experiment, *, data_dir: Path | None, progress: Progress) -> TaskStore:
    """Return the experiment's store; prepares it if its log or its settings have changed.

    A store that is named (`run.store`) is another run's and is taken as it is.
    """
    path = experiment.store
    if experiment.run.store is None and not up_to_date(experiment.data, path, data_dir=data_dir):
        with ray_session():
            prepare(experiment.data, path, data_dir=data_dir, progress=progress)
    store = TaskStore.open(path)
    if store.manifest.feedback != experiment.data.feedback:
        raise ConfigError(
            f"data.feedback must be that of the store, {store.manifest.feedback}, "
            f"got {experiment.data.feedback} ({path})"
        )
    return store
