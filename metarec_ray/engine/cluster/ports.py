"""Every TCP port that this machine listens on and the process behind it, and ports that are free.

Does not know which of them are ours.
"""

import socket
from ipaddress import ip_address
from typing import NamedTuple

import psutil


class Port(NamedTuple):
    """A listening socket; `process` is `name (pid)`, or `?` where the system hides it."""

    address: str
    port: int
    process: str

    @property
    def on_all_interfaces(self) -> bool:
        """Whether it is bound to 0.0.0.0 or ::, so that other machines reach it."""
        return ip_address(self.address.split("%")[0]).is_unspecified


def listening() -> list[Port]:
    """Return the listening TCP sockets by port; psutil.AccessDenied if the user may not ask."""
    found = {
        Port(connection.laddr.ip, connection.laddr.port, _name(connection.pid))
        for connection in psutil.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }
    return sorted(found, key=lambda one: (one.port, one.address))


def free(count: int) -> list[int]:
    """Return different ports that nothing listens on, on any interface, by now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _name(pid: int | None) -> str:
    if pid is None:
        return "?"
    try:
        return f"{psutil.Process(pid).name()} ({pid})"
    except psutil.Error:
        return f"? ({pid})"
