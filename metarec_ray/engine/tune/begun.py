"""What a sweep was begun with: written beside it, and held against what it is resumed with.

Does not know trials.
"""

from pathlib import Path

from metarec_ray.atomic import replace_text
from metarec_ray.config.compare import difference
from metarec_ray.config.experiment import Experiment, dump, load, relative
from metarec_ray.data.store.manifest import Manifest
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.validation import Objective

WITH, ON, BY = "sweep.yaml", "sweep-store.txt", "sweep-metric.txt"
SECTIONS = ("run", "data", "model", "algorithm", "train", "sweep", "evaluate", "blend")


def write(experiment: Experiment, store: Manifest, objective: Objective, directory: Path) -> None:
    """Write down configuration, hash of the store, and metric of a sweep in `directory`."""
    replace_text(directory / WITH, dump(relative(experiment, directory)))
    replace_text(directory / ON, store.store_sha256 + "\n")
    replace_text(directory / BY, objective.metric + "\n")


def require_same(
    experiment: Experiment, store: Manifest, objective: Objective, directory: Path
) -> None:
    """Raise a ConfigError if the sweep in `directory` was begun with other data or settings."""
    judged = directory / BY
    metric_was = judged.read_text("utf-8").strip() if judged.exists() else "another metric"
    if metric_was != objective.metric:
        raise ConfigError(
            f"a sweep resumes with the metric it began with, {directory} has {metric_was}, now "
            f"{objective.metric}; choose another run.dir to begin anew"
        )
    path, begun_on = directory / WITH, directory / ON
    store_was = begun_on.read_text("utf-8").strip() if begun_on.exists() else store.store_sha256
    if store_was != store.store_sha256:
        raise ConfigError(
            f"a sweep resumes on the store it began with, {directory} has {store_was[:12]}, now "
            f"{store.store_sha256[:12]}; choose another run.dir to begin anew"
        )
    changed = difference(load(path), experiment, store.feedback, SECTIONS)
    if changed is not None:
        raise ConfigError(
            f"a sweep resumes with the configuration it began with, {changed} ({path}); choose "
            "another run.dir to begin anew"
        )
