"""What a sweep was begun with: written beside it, and held against what it is resumed with.

Does not know trials.
"""

from pathlib import Path

from metarec_ray.atomic import replace_text
from metarec_ray.config.compare import difference
from metarec_ray.config.experiment import Experiment, dump, load, relative
from metarec_ray.data.store.manifest import Manifest
from metarec_ray.errors import ConfigError

WITH, ON = "sweep.yaml", "sweep-store.txt"
SECTIONS = ("run", "data", "model", "algorithm", "train", "sweep", "evaluate", "blend")


def write(experiment: Experiment, store: Manifest, directory: Path) -> None:
    """Write down the configuration and the hash of the store of a sweep in `directory`."""
    replace_text(directory / WITH, dump(relative(experiment, directory)))
    replace_text(directory / ON, store.store_sha256 + "\n")


def require_same(experiment: Experiment, store: Manifest, directory: Path) -> None:
    """Raise a ConfigError if the sweep in `directory` was begun with other data or settings."""
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
