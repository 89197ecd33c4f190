"""Whether an endpoint can have its ports, and who has them if it cannot.

Knows sockets; does not know what will listen.
"""

import errno
import socket
from collections.abc import Iterable

import psutil

from metarec_ray.engine.cluster.ports import Port, listening
from metarec_ray.errors import MachineError


def require_free(host: str, port: int) -> None:
    """Raise a MachineError that says what to do unless `host:port` can be listened on."""
    place = f"{host}:{port}"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise MachineError(_sentence(error, place, port)) from error


def holder(port: int, found: Iterable[Port]) -> str:
    """Return the process that listens on a port, as `name (pid)`."""
    names = {one.process for one in found if one.port == port} - {"?"}
    return ", ".join(sorted(names)) or "a process of another user"


def _sentence(error: OSError, place: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        try:
            found = listening()
        except psutil.AccessDenied:
            found = []
        return (
            f"a port must be free, {place} is held by {holder(port, found)}: end that, or choose "
            "another (serve.port, --port)"
        )
    if error.errno == errno.EACCES:
        return f"a port below 1024 needs rights that this user lacks, got {place} (serve.port)"
    return f"an endpoint listens on an address of this machine, got {place} (serve.host): {error}"
