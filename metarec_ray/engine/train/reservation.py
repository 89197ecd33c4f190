"""What Ray holds for a run whose driver was killed: room for its workers, for three minutes more.

An elastic group starts where Ray's coordinator of resources has room for it; what it holds for the
driver before is given back here, by whoever drives the run now. Knows one file of a run's folder.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import ray
from ray.exceptions import RayError

from metarec_ray.atomic import replace_text

NAME = "ray-run"
PATIENCE_S = 5.0
_COORDINATOR = "AutoscalingCoordinator"  # its name and its namespace are Ray's own


def cancel(run_id: str) -> None:
    """Give back what Ray's coordinator, if there is one, holds for a run of Ray Train."""
    with suppress(ValueError, RayError):  # there is none, or it does not answer: it forgets by then
        coordinator = ray.get_actor(_COORDINATOR, namespace=_COORDINATOR)
        ray.get(coordinator.cancel_request.remote(f"train-{run_id}"), timeout=PATIENCE_S)


def take_over(directory: Path, run_id: str, cancel: Callable[[str], None] = cancel) -> None:
    """Give back what is held for the driver before, and write down the id of this one's run."""
    path = directory / NAME
    with suppress(OSError):
        cancel(path.read_text("utf-8"))
    replace_text(path, run_id)
