"""Faults of bench_recovery.py: what is done to a cluster that trains, and what is mended then.

Knows processes, links and disks of `tests.chaos.two_nodes`; does not know what is measured.
"""

import os
import random
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.chaos.two_nodes import NAMES, Nodes, workers_of

FILLER = "filler"


class Scene(NamedTuple):
    """Where a fault happens: the cluster, the disk that the run lies on, and chance."""

    nodes: Nodes
    disk: Path
    source: random.Random


class Fault(NamedTuple):
    """A kind of fault.

    Attributes:
        hit: makes it happen.
        mend: brings the cluster back for the next run, after this one has ended.
        soon: is called some seconds after `hit`, while the run goes on.
        supervised: whether the run is submitted with `--supervise`.
        by_hand: whether somebody must start Ray and type the command again.
        most_s: seconds until the run should move again.

    """

    hit: Callable[[Scene], None]
    most_s: float
    mend: Callable[[Scene], None] = lambda scene: None
    soon: Callable[[Scene], None] = lambda scene: None
    supervised: bool = False
    by_hand: bool = False


def kill_a_worker(scene: Scene) -> None:
    """SIGKILL a worker of either node."""
    _worker(scene).send_signal(signal.SIGKILL)


def stop_a_worker(scene: Scene) -> None:
    """SIGSTOP a worker of either node: it hangs."""
    _worker(scene).send_signal(signal.SIGSTOP)


def kill_the_driver(scene: Scene) -> None:
    """SIGKILL the process that `metarec train` is, on whatever node."""
    for name in NAMES[:2]:
        for process in psutil.Process(scene.nodes.heads[name].pid).children(recursive=True):
            with suppress(psutil.Error):  # it has ended meanwhile
                if process.cmdline()[1:4] == ["-m", "metarec_ray", "train"]:
                    process.send_signal(signal.SIGKILL)
                    return
    raise RuntimeError("no driver was found")


def kill_the_raylet(scene: Scene) -> None:
    """SIGKILL Ray's own process of the second node."""
    for process in psutil.Process(scene.nodes.heads[NAMES[1]].pid).children(recursive=True):
        if process.name() == "raylet":
            process.send_signal(signal.SIGKILL)


def end_the_node(scene: Scene) -> None:
    """SIGKILL all processes of the second node: a power cut."""
    scene.nodes.end(1)


def end_the_head(scene: Scene) -> None:
    """SIGKILL all processes of the head."""
    scene.nodes.end(0)


def cut_off(scene: Scene) -> None:
    """Take the second node's link down."""
    scene.nodes.plug(1, False)


def fill_the_disk(scene: Scene) -> None:
    """Fill the disk of the run to the last byte."""
    with (scene.disk / FILLER).open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def free_the_disk(scene: Scene) -> None:
    """Remove what filled the disk."""
    (scene.disk / FILLER).unlink(missing_ok=True)


def begin_the_node(scene: Scene) -> None:
    """Connect the second node and start it anew."""
    scene.nodes.plug(1, True)
    scene.nodes.end(1)
    scene.nodes.begin(1)


FAULTS = {
    "SIGKILL of a worker": Fault(kill_a_worker, 45),
    "SIGSTOP of a worker": Fault(stop_a_worker, 45),
    "SIGKILL of the driver": Fault(kill_the_driver, 45, supervised=True),
    "SIGKILL of a raylet": Fault(kill_the_raylet, 60, mend=begin_the_node),
    "a node gone": Fault(end_the_node, 60, mend=begin_the_node),
    "a node cut off": Fault(cut_off, 60, mend=begin_the_node),
    "a full disk": Fault(fill_the_disk, 60, soon=free_the_disk, mend=free_the_disk),
    "the head gone": Fault(end_the_head, 60, by_hand=True),
}


def mount(folder: Path, megabytes: int) -> None:
    """Make a disk of its own at a folder, which namespaces made later see."""
    folder.mkdir(parents=True)
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(folder)], check=True)


def unmount(folder: Path) -> None:
    """Remove it."""
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _worker(scene: Scene) -> psutil.Process:
    found = [one for name in NAMES[:2] for one in workers_of(scene.nodes, name)]
    return scene.source.choice(sorted(found, key=lambda process: process.pid))
