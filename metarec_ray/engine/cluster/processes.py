"""The processes that belong to one Ray head, and how to end them.

Knows process ids, environments and when the kernel started a process; does not know Ray.
"""

import os
from pathlib import Path

import psutil

# Stands in the environment of the head and so of everything it starts, Ray jobs included.
MARK = "METAREC_CLUSTER"
STOP_SECONDS = 8.0


def started(pid: int) -> int | None:
    """Return when the process was started, in clock ticks since boot; None if there is none.

    With its id this names a process: unlike a time of day it does not move with the clock.
    """
    try:
        line = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    # The second field, the name in parentheses, may hold spaces and parentheses itself.
    return int(line.rpartition(")")[2].split()[19])


def family(pid: int, since: int, mark: str) -> list[psutil.Process]:
    """Return the head, its descendants, and every process with its mark; not this process.

    Both ways, because a process that Ray renames loses its environment.
    """
    head = root(pid, since)
    found: dict[int, psutil.Process] = {}
    if head is not None:
        found = {process.pid: process for process in [head, *head.children(recursive=True)]}
    for process in psutil.process_iter():
        if _marked(process, mark):
            found[process.pid] = process
    found.pop(os.getpid(), None)
    return [process for process in found.values() if _alive(process)]


def root(pid: int, since: int) -> psutil.Process | None:
    """Return the process that was `started` then, if it is alive; None if another has its id."""
    if started(pid) != since:
        return None
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
    return process if _alive(process) else None


def end(pid: int, since: int, mark: str) -> list[psutil.Process]:
    """Stop the head, then kill the rest of its processes; return those that are still alive."""
    members = family(pid, since, mark)
    head = root(pid, since)
    if head is not None:
        head.terminate()
        psutil.wait_procs([head], timeout=STOP_SECONDS)
    rest = {*(p for p in members if _alive(p)), *family(pid, since, mark)}
    for process in rest:
        _kill(process)
    psutil.wait_procs(list(rest), timeout=STOP_SECONDS)
    return [p for p in rest if _alive(p)] + family(pid, since, mark)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False
