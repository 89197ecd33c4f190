"""How workers find each other: by the addresses that Ray uses for their nodes, not by host names.

A host name often means loopback to its own machine (every Debian has it as 127.0.1.1), and gloo
asks for it unless an interface is named. The group is made by the workers themselves, not by Ray's
controller: Ray restarts workers after an error of theirs, and gives a run up after one of its own.
"""

import os
import socket
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psutil
import ray
import ray.train
import torch.distributed as dist
from ray.train.backend import Backend
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchConfig
from torch.distributed import Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from metarec_ray.errors import MachineError

START_TIMEOUT = timedelta(seconds=60)
# A worker that hangs is found by Ray's polls; this finds a live one that never comes. It is long,
# for the others wait through whatever one of them does alone, as to save a checkpoint.
COLLECTIVE_TIMEOUT = timedelta(minutes=10)
_VARIABLES = {"gloo": "GLOO_SOCKET_IFNAME", "nccl": "NCCL_SOCKET_IFNAME"}
Interfaces = Mapping[str, Sequence[str]]
"""Addresses of each network interface of this node."""


class _ByTheWorkers(Backend):
    share_cuda_visible_devices = True  # as Ray's own, from which NCCL needs it


class OwnGroup(TorchConfig):
    """Ray's settings of torch, with a process group that Ray does not make."""

    @property
    def backend_cls(self) -> Any:
        return _ByTheWorkers


@contextmanager
def process_group(backend: str) -> Iterator[None]:
    """Hold the group of all workers open for a `with` block; one worker has none.

    Every worker calls it. After an error the group is left to the end of the process.

    Raises:
        MachineError: a worker was not reached.

    """
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    if world == 1:
        yield
        return
    together = context.get_local_world_size() == world
    address = "127.0.0.1" if together else ray.util.get_node_ip_address()  # closed to others
    name_interface(os.environ, backend, interface_of(address, interfaces()))
    try:
        store = _meeting_place(address, rank, world)
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=world, timeout=COLLECTIVE_TIMEOUT
        )
    except RuntimeError as error:
        raise MachineError(_unreached(error, rank, address, os.environ, backend)) from error
    yield
    dist.destroy_process_group()


def interfaces() -> dict[str, list[str]]:
    """Return the addresses of each network interface of this node."""
    return {name: [one.address for one in found] for name, found in psutil.net_if_addrs().items()}


def interface_of(address: str, found: Interfaces) -> str | None:
    """Return the interface that has an address; None if none has, as behind a translation.

    >>> interface_of("10.0.0.2", {"lo": ["127.0.0.1"], "e0": ["10.0.0.2", "fe80::1%e0"]})
    'e0'
    """
    for name, addresses in found.items():
        if address.partition("%")[0] in (one.partition("%")[0] for one in addresses):
            return name
    return None


def name_interface(environ: MutableMapping[str, str], backend: str, interface: str | None) -> None:
    """Name the interface in the variable of a backend, unless the user has named one."""
    if interface is not None:
        # NCCL takes a name for the beginning of names, without the sign.
        environ.setdefault(_VARIABLES[backend], f"={interface}" if backend == "nccl" else interface)


def _meeting_place(address: str, rank: int, world: int) -> Store:
    """Return the store in which the workers' addresses are exchanged; rank 0 holds it."""
    if rank == 0:
        held = TCPStore(
            address, 0, world, is_master=True, timeout=START_TIMEOUT, wait_for_workers=False
        )
        broadcast_from_rank_zero((address, held.port))
        return held
    host, port = broadcast_from_rank_zero(("", 0))
    return TCPStore(host, port, world, is_master=False, timeout=START_TIMEOUT)


def _unreached(
    error: RuntimeError, rank: int, address: str, environ: Mapping[str, str], backend: str
) -> str:
    variable = _VARIABLES[backend]
    by = environ.get(variable, "an interface of its own choice").removeprefix("=")
    why = str(error).strip().splitlines()[0].rstrip(".")
    own = f"rank {rank} on {socket.gethostname()} ({address}, by {by})"
    return (
        f"workers must reach each other, {own} did not: {why}; open all ports between the nodes, "
        f"or set {variable} to the right interface in the environment of each node's ray start"
    )
