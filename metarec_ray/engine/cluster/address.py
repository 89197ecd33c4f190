"""Whether somebody answers at an address, before Ray is asked to.

Ray takes half a minute for it, or asks for a token first. Knows sockets and forms of addresses;
does not know who answers.
"""

import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from metarec_ray.errors import MachineError

CONNECT_SECONDS = 5.0
VARIABLE = "RAY_ADDRESS"


def cluster_address(environ: Mapping[str, str]) -> str | None:
    """Return the cluster of `RAY_ADDRESS` that is to be joined; None to start one.

    `local` and nothing start one, `auto` is the one that Ray finds on this machine.

    Raises:
        MachineError: the address has another form than HOST:PORT, or nobody answers there.

    """
    asked = environ.get(VARIABLE, "").strip()
    if asked in ("", "local"):
        return None
    if asked == "auto":
        return asked
    form = f"{VARIABLE} must be HOST:PORT of a cluster, or auto, or local, got {asked}"
    if "://" in asked:
        raise MachineError(f"{form}: unset it, and use metarec submit --address for a dashboard")
    try:
        parts = urlsplit(f"//{asked}")
        usable = bool(parts.hostname) and parts.port is not None and not parts.path
    except ValueError:
        usable = False
    if not usable:
        raise MachineError(f"{form}: the port of Ray's head is 6379 unless it was chosen")
    require_answer(f"//{asked}", VARIABLE)
    return asked


def require_answer(url: str, place: str) -> None:
    """Raise a MachineError that names the place unless a connection is taken at the address."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = "nobody answers" if isinstance(error, TimeoutError) else str(error)
        shown = url.removeprefix("//")
        raise MachineError(
            f"a cluster must answer at the address, got {reason} ({shown}, {place})"
        ) from None
