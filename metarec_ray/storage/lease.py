"""Who may write a folder of an object store: one process, which says again and again that it lives.

Knows one object; does not know what is written. There are no locks in an object store: a writer
that has not been heard of for `EXPIRES_S` by the store's clock is taken to be gone, and finds out
when it writes next.
"""

import json
import os
import socket
import time
import uuid

from metarec_ray.errors import ConfigError, MachineError, RunFailed
from metarec_ray.storage.objects import Objects

NAME = ".writer"
EXPIRES_S = 60.0
BEAT_S = 15.0


def holder(objects: Objects) -> str | None:
    """Return the id of whoever wrote last, alive or not; None if nobody ever has."""
    found = _read(objects)
    return found.get("id") if found else None


def living(objects: Objects) -> str | None:
    """Return who writes now, `process 17 on node-a`; None if nobody does."""
    found, info = _read(objects), objects.info(NAME)
    if not found or not info or found.get("ended"):
        return None
    try:
        now = objects.now()
    except MachineError:  # whoever may only read goes by the clock of this machine
        now = time.time_ns()
    return str(found.get("who")) if (now - info.written) / 1e9 < EXPIRES_S else None


def take(objects: Objects, *, own: str | None) -> str:
    """Take the right to write, and return its id.

    Args:
        objects: of the folder.
        own: id that was taken on this machine before, by a process that has ended.

    Raises:
        ConfigError: another process writes.

    """
    who = living(objects)
    if who is not None and holder(objects) != own:
        raise ConfigError(
            f"a run is written by one process at a time, {objects.uri} is by {who}: let it end, "
            f"wait {EXPIRES_S:g} s if it was killed, or choose another run.dir"
        )
    lease = uuid.uuid4().hex
    beat(objects, lease)
    return lease


def beat(objects: Objects, lease: str, *, ended: bool = False) -> None:
    """Say that the writer lives, or has ended."""
    who = f"process {os.getpid()} on {socket.gethostname()}"
    objects.write(NAME, json.dumps({"id": lease, "who": who, "ended": ended}).encode())


def require(objects: Objects, lease: str) -> None:
    """Raise RunFailed if another writer has taken the folder."""
    found = _read(objects) or {}
    if found.get("id") != lease:
        raise RunFailed(
            f"a run is written by one process at a time, {objects.uri} was taken by "
            f"{found.get('who', 'nobody')} meanwhile; what is not there yet is left out"
        )


def _read(objects: Objects) -> dict[str, str] | None:
    data = objects.read(NAME)
    if data is None:
        return None
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
