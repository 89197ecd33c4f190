"""What a shell and a working folder may do to Ray, found before Ray is asked.

Addresses of other forms or that nobody answers at, long paths, modules with names of packages: Ray
takes half a minute, or a traceback, to say so. Knows variables, file names and sockets; does not
import ray.
"""

import os
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from urllib.parse import urlsplit

from metarec_ray.errors import MachineError

CONNECT_SECONDS = 5.0
VARIABLE = "RAY_ADDRESS"

# A Unix socket's path has at most 107 bytes; Ray puts `/ray/session_TIME_PID/sockets/plasma_store`
# below its folder, and a cluster of ours a folder of its own above that.
SOCKET_BYTES, SESSION_BYTES, FOLDER_BYTES = 107, 70, 17
# Workers look into the working folder before they look among installed packages.
NEEDED = (
    *("aiohttp", "fastapi", "grpc", "matplotlib", "numpy", "packaging", "pandas", "polars"),
    *("psutil", "pyarrow", "pydantic", "ray", "rich", "safetensors", "scipy", "starlette"),
    *("torch", "typer", "uvicorn", "yaml"),
)


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


def prepare(environ: MutableMapping[str, str], folder: Path) -> None:
    """Let Ray's sockets fit, whatever `TMPDIR` is, in a shell that works in `folder`.

    Raises:
        MachineError: the folder holds a module that would be taken for a package that we need, or
            `RAY_TMPDIR` is too long.

    """
    for name in NEEDED:
        for path in (folder / f"{name}.py", folder / name / "__init__.py"):
            if path.exists():
                raise MachineError(
                    f"a working folder must not hold a module named {name}, which workers would "
                    f"import for the package: rename {path}, or work in another folder"
                )
    longest = SOCKET_BYTES - SESSION_BYTES
    chosen = environ.get("RAY_TMPDIR")
    if chosen is None:
        environ["RAY_TMPDIR"] = str(temporary_folder(environ, longest))
    elif len(os.fsencode(chosen)) > longest:
        raise MachineError(
            f"RAY_TMPDIR must have at most {longest} bytes, because sockets lie below it, got "
            f"{chosen}: unset it, or choose a shorter one"
        )


def temporary_folder(environ: MutableMapping[str, str], longest: int) -> Path:
    """Return `TMPDIR` if it is a folder whose path has at most `longest` bytes, else `/tmp`."""
    named = environ.get("TMPDIR", "")
    usable = bool(named) and len(os.fsencode(named)) <= longest and os.access(named, os.W_OK)
    return Path(named) if usable else Path("/tmp")
