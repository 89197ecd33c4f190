"""What is asked of the nodes of a cluster before anything runs on them.

A folder that only one node sees, another version on one of them, or CPUs that no node has, are told
in one sentence before the first step; otherwise a run would wait for ever, or fail node by node.
"""

import os
import platform
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import ray
import torch
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from metarec_ray import __version__
from metarec_ray.engine.cluster.job import ENTRYPOINT_CPUS
from metarec_ray.errors import MachineError, MetarecError, last_line
from metarec_ray.storage.objects import Objects
from metarec_ray.storage.places import located
from metarec_ray.storage.working_copy import WorkingCopy

PATIENCE_S = 60.0
"""A node that does not answer for so long cannot be used: its first worker takes seconds."""
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in the process of a job


class Node(NamedTuple):
    """A node that is alive: its id, its name for people, and its logical CPUs."""

    id: str
    name: str
    cpus: float


class Look(NamedTuple):
    """What a node is asked to see: a marker with a text, a store, versions; `uri` if it is remote.

    The marker is a path, below a `uri` an object's name.
    """

    marker: str
    text: str
    store: str | None
    versions: dict[str, str]
    uri: str | None = None


def nodes() -> list[Node]:
    """Return the nodes that are alive; needs a Ray session."""
    return [
        Node(one["NodeID"], one["NodeName"], one["Resources"].get("CPU", 0.0))
        for one in ray.nodes()
        if one["Alive"]
    ]


def room(found: Iterable[Node], each: float) -> int:
    """Return how many workers of `each` CPUs the nodes hold at once, each on one node."""
    each = max(each, 1e-6)  # less is as good as nothing, and overflows
    return sum(int((node.cpus + 1e-9) // each) for node in found)


def require_cpus(
    each: float,
    together: int,
    *,
    key: str,
    found: list[Node] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Raise a MachineError unless the cluster has CPUs for `together` workers of `each`.

    Args:
        each: CPUs of a worker, which one node must have.
        together: workers that only run all at once.
        key: that asks for them.
        found: the nodes; None for those of the session.
        environ: says whether this process is a job's, which holds CPUs itself.

    """
    found = nodes() if found is None else found
    held = ENTRYPOINT_CPUS if _JOB in environ else 0.0
    free = found
    if len(found) == 1:  # of several the job may sit on any
        free = [found[0]._replace(cpus=found[0].cpus - held)]
    if room(free, each) >= together:
        return
    has = ", ".join(f"{node.cpus:g} on {node.name}" for node in found) or "no node"
    beside = f", beside the {held:g} of the job itself" if held else ""
    raise MachineError(
        f"a cluster must have {each:g} CPUs for each of {together} workers at once ({key})"
        f"{beside}, this one has {has}"
    )


def require_shared(folder: Path, store: Path | None, *, found: list[Node] | None = None) -> None:
    """Raise a MachineError unless every node sees a run's folder and its store, by our versions.

    A marker is written into the folder and read by a task on each node. A cluster that is this
    node alone is not asked.
    """
    found = nodes() if found is None else found
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in found if node.id != here]
    if not others:
        return
    copy = located(folder).copy()
    if copy is not None:
        _require_reached(copy, others)
        return
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / f".seen-{uuid.uuid4().hex[:8]}"
    text = uuid.uuid4().hex
    marker.write_text(text, encoding="utf-8")
    try:
        look = Look(str(marker), text, None if store is None else str(store), versions())
        _ask(others, look)
    finally:
        with suppress(OSError):
            marker.unlink()


def _require_reached(copy: WorkingCopy, others: list[Node]) -> None:
    """Ask of every node what it sees of the object store that a run lies in."""
    name, text = f".seen-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    copy.objects.write(name, text.encode())
    try:
        _ask(others, Look(name, text, None, versions(), copy.objects.uri))
    finally:
        copy.objects.remove(name)


def versions() -> dict[str, str]:
    """Return the versions that parameters, bit for bit, and pickled tasks depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ray": ray.__version__,
        "metarec_ray": __version__,
    }


def seen(look: Look, *, own: Callable[[], dict[str, str]] = versions) -> str | None:
    """Return why this node cannot take part, None if it can."""
    folder = look.uri or Path(look.marker).parent
    try:
        text = _marker(look)
    except OSError as error:
        return f"does not see the run's folder ({error.strerror}: {folder})"
    except MetarecError as error:
        return f"does not see the run's folder ({error})"
    if text != look.text:
        return f"sees another folder under the name of the run's ({folder})"
    if look.store is not None and not os.path.exists(os.path.join(look.store, "manifest.json")):
        return f"does not see the task store ({look.store})"
    theirs = own()
    for name, version in look.versions.items():
        if theirs[name] != version:
            return f"has {name} {theirs[name]}, the driver {version}"
    return None


def _marker(look: Look) -> str:
    if look.uri is None:
        return Path(look.marker).read_text("utf-8")
    return (Objects(look.uri).read(look.marker) or b"").decode()


def _ask(others: Iterable[Node], look: Look) -> None:
    asked = {
        node: _seen.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(look)
        for node in others
    }
    for node, answer in asked.items():
        try:
            why = ray.get(answer, timeout=PATIENCE_S)
        except GetTimeoutError:
            why = f"has not answered for {PATIENCE_S:g} s"
        except RayError as error:
            why = f"cannot run a task: {last_line(error, type(error).__name__)}"
        if why is not None:
            raise MachineError(
                f"every node must see a run's folder and store, with the driver's versions: "
                f"{node.name} {why}"
            )


@ray.remote(num_cpus=0, max_retries=0)
def _seen(look: Look) -> str | None:
    return seen(look)
