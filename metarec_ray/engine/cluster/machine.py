"""What the machine offers, or the container's share of it: CPUs, memory, disk, ports.

Knows control groups, bytes and sockets; does not know Python packages or Ray, which looks at a
container's own group only, not at those that it lies in.
"""

import math
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from metarec_ray.engine.cluster.ports import Port

GIB = 2**30

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")

Level = Literal["ok", "warn", "bad"]


class Finding(NamedTuple):
    """A finding: with `bad` a run cannot work, with `warn` it may not; `mend` says what to do."""

    level: Level
    subject: str
    found: str
    mend: str = ""


def cpus(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    """Return how many CPUs this process may use: the smaller of the host's and its groups'."""
    quotas = [
        int(quota) / int(period)
        for line in _settings("cpu", "cpu.max", "cpu.cfs_quota_us cpu.cfs_period_us", groups, own)
        for quota, period in [line.split()]
        if quota.isdecimal()  # not `max`, nor -1
    ]
    return math.ceil(min([len(os.sched_getaffinity(0)), *quotas]))


def memory_limit(host: int, groups: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    """Return how many bytes this process may use: the smaller of `host` and its groups'."""
    found = _settings("memory", "memory.max", "memory.limit_in_bytes", groups, own)
    return min([host, *(int(line) for line in found if line.isdecimal())])


def _settings(controller: str, new: str, old: str, groups: Path, own: Path) -> Iterator[str]:
    """Yield a setting of this process's group and of those around it; `old` names are of v1."""
    try:
        lines = own.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = groups / controller if controllers else groups
        inner = root / path.lstrip("/")
        for folder in [inner, *(one for one in inner.parents if one.is_relative_to(root))]:
            names = (old if controllers else new).split()
            try:
                yield " ".join((folder / name).read_text("ascii").strip() for name in names)
            except OSError:
                continue  # the group is not seen from inside a container, or has no such limit


def memory(available: int) -> Finding:
    """Judge the free memory, in bytes."""
    found = f"{available / GIB:.1f} GiB available"
    # Ray's own processes take 0.6 GiB, a worker with torch 0.5, the object store 0.5.
    if available >= 3 * GIB:
        return Finding("ok", "memory", found)
    level: Level = "warn" if available >= 2 * GIB else "bad"
    return Finding(level, "memory", found, "close other programs, or set train.num_workers=1")


def disk(folder: Path) -> Finding:
    """Judge the space of a folder."""
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free in {folder}"
    if not os.access(folder, os.W_OK):
        mend = "set run.dir (or TMPDIR) to a folder that you may write to"
        return Finding("bad", "disk", f"{found}, not writable", mend)
    if free < 2 * GIB:
        return Finding("warn", "disk", found, "free some space: a run and Ray's logs take 2 GiB")
    return Finding("ok", "disk", found)


def shared_memory(folder: Path) -> Finding:
    """Judge the folder where Ray's object store lies."""
    if not folder.is_dir():
        return Finding("ok", "shared memory", f"no {folder} here, Ray uses files instead")
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free in {folder}"
    if free >= GIB:
        return Finding("ok", "shared memory", found)
    return Finding("warn", "shared memory", found, "in a container: docker run --shm-size=2g")


def open_ports(found: Iterable[Port]) -> list[Finding]:
    """Return one finding per listening port; a port open on every interface is a warning."""
    mend = "answers other machines: a firewall decides which"
    return [
        Finding("warn", "port", f"{port.address}:{port.port} {port.process}", mend)
        if port.on_all_interfaces
        else Finding("ok", "port", f"{port.address}:{port.port} {port.process}")
        for port in found
    ]
