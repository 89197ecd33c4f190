"""The processes that belong to one Ray head, and how to end them.

Knows process ids and environments; does not know Ray.
"""

import os

import psutil

# Stands in the environment of the head and so of everything it starts, Ray jobs included.
MARK = "METAREC_CLUSTER"
STOP_SECONDS = 8.0


def family(pid: int, started: float, mark: str) -> list[psutil.Process]:
    """Return the head, its descendants, and every process with its mark; not this process.

    Both ways, because a process that Ray renames loses its environment.
    """
    head = root(pid, started)
    found: dict[int, psutil.Process] = {}
    if head is not None:
        found = {process.pid: process for process in [head, *head.children(recursive=True)]}
    for process in psutil.process_iter():
        if _marked(process, mark):
            found[process.pid] = process
    found.pop(os.getpid(), None)
    return [process for process in found.values() if _alive(process)]


def root(pid: int, started: float) -> psutil.Process | None:
    """Return the head if it is alive; None if another process has its id now."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < 1.0
    except psutil.NoSuchProcess:
        return None
    return process if same and _alive(process) else None


def end(pid: int, started: float, mark: str) -> list[psutil.Process]:
    """Stop the head, then kill the rest of its processes; return those that are still alive."""
    members = family(pid, started, mark)
    head = root(pid, started)
    if head is not None:
        head.terminate()
        psutil.wait_procs([head], timeout=STOP_SECONDS)
    rest = {*(p for p in members if _alive(p)), *family(pid, started, mark)}
    for process in rest:
        _kill(process)
    psutil.wait_procs(list(rest), timeout=STOP_SECONDS)
    return [p for p in rest if _alive(p)] + family(pid, started, mark)


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
