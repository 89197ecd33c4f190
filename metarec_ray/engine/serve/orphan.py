"""The endpoint of a cluster whose `metarec serve` was killed: Serve goes on without it.

Knows Serve's controller and the cluster's table of drivers; does not know how an endpoint starts.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import ray
from ray import serve
from ray._private import state

from metarec_ray.errors import MachineError

CONTROLLER, NAMESPACE = "SERVE_CONTROLLER_ACTOR", "serve"

log = logging.getLogger(__name__)


class Driver(NamedTuple):
    """The process that started a cluster's endpoint; `ours` if it was a `metarec serve`."""

    place: str
    dead: bool
    ours: bool


def end_orphan(target: str) -> None:
    """End the cluster's endpoint if its `metarec serve` is dead.

    Raises:
        MachineError: the cluster serves, and who started it lives, or was another program.

    """
    try:
        controller = ray.get_actor(CONTROLLER, namespace=NAMESPACE)
    except ValueError:
        return
    driver = find_driver(controller._actor_id.job_id.hex(), state.state.job_table())
    if driver is None or not driver.dead or not driver.ours:
        by = f", started by {driver.place}" if driver else ""
        raise MachineError(
            f"a cluster can serve one endpoint at a time, {target} does{by}: end that first"
        )
    log.warning("ending the endpoint of a metarec serve that was killed (%s)", driver.place)
    serve.shutdown()


def find_driver(job: str, jobs: Iterable[Mapping[str, Any]]) -> Driver | None:
    """Return the driver of a job in the cluster's table; None if it is not there."""
    for one in jobs:
        if one["JobID"] == job:
            words = str(one["Entrypoint"]).split()
            ours = "serve" in words and any(
                word == "metarec_ray" or word.endswith("/metarec") for word in words
            )
            place = f"process {one['DriverPid']} on {one['DriverIPAddress']}"
            return Driver(place, bool(one["IsDead"]), ours)
    return None
