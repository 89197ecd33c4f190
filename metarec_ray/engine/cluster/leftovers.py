"""What an endpoint left behind whose `metarec serve` was killed: a folder, and processes of it.

Knows the folders of endpoints, their owners and command lines; does not know Ray.
"""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from metarec_ray.engine.cluster.processes import root, started

PLACE, PREFIX, OWNER = Path("/tmp"), "metarec-", "owner.json"


class Leftover(NamedTuple):
    """The folder of a dead owner (a process id), and the processes that run on its files."""

    folder: Path
    owner: int
    processes: list[psutil.Process]

    def sentence(self) -> str:
        """Return what is left and which ports it holds."""
        held = [f"{one.name()} ({one.pid}) {_ports(one)}".strip() for one in self.processes]
        what = " and ".join([str(self.folder), *held])
        return f"{what}, of a metarec serve that was killed (process {self.owner})"


def own(folder: Path) -> None:
    """Write into an endpoint's folder that this process owns it."""
    identity = {"pid": os.getpid(), "started": started(os.getpid()), "space": _space()}
    (folder / OWNER).write_text(json.dumps(identity), encoding="ascii")


def find(place: Path = PLACE) -> list[Leftover]:
    """Return what this user's endpoints left whose owner is dead; those that live are not ours."""
    return [
        Leftover(path.parent, owner, _processes(path.parent))
        for path in sorted(place.glob(f"{PREFIX}*/{OWNER}"))
        if (owner := _dead_owner(path)) is not None
    ]


def end(leftover: Leftover) -> None:
    """Kill the processes and remove the folder."""
    for process in leftover.processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(leftover.processes, timeout=5)
    shutil.rmtree(leftover.folder, ignore_errors=True)


def _dead_owner(path: Path) -> int | None:
    """Return the process id of an owner that is dead and was ours; None for any other."""
    try:
        if path.stat().st_uid != os.geteuid():
            return None
        identity = json.loads(path.read_bytes())
        pid, since = int(identity["pid"]), int(identity["started"])
        seen = identity["space"] == _space()
    except (OSError, ValueError, KeyError, TypeError):
        return None  # being written, or not a file of ours
    return None if root(pid, since) or not seen else pid


def _space() -> str:
    """Return the name of this process's space of ids: a container has one of its own."""
    return os.readlink("/proc/self/ns/pid")


def _processes(folder: Path) -> list[psutil.Process]:
    """Return this user's processes whose command line names a file of the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.uids().effective == os.geteuid()
            named = any(word.startswith(f"{folder}/") for word in process.cmdline())
        except psutil.Error:
            continue
        if ours and named and process.pid != os.getpid():
            found.append(process)
    return found


def _ports(process: psutil.Process) -> str:
    try:
        found = {
            connection.laddr.port
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
    except psutil.Error:
        return ""
    return f"on port {', '.join(map(str, sorted(found)))}" if found else ""
