"""Who may talk to a Ray cluster: token mode, and a token file that only its owner can read.

Knows environment variables and one file; does not import ray, which reads the mode once, when it
is imported.
"""

import logging
import os
import secrets
import stat
import sys
from collections.abc import MutableMapping
from pathlib import Path

from metarec_ray.errors import MachineError
from metarec_ray.service.auth import usable_secret

Environ = MutableMapping[str, str]

log = logging.getLogger(__name__)


def home(environ: Environ) -> Path:
    """Return the folder of our own state: `METAREC_HOME`, else `~/.metarec`."""
    named = environ.get("METAREC_HOME")
    if named:
        return Path(named).expanduser().resolve()
    try:
        return Path.home() / ".metarec"
    except RuntimeError:  # a user whom the system does not know
        return Path("/.metarec")


def writable_home(environ: Environ) -> Path:
    """Return the folder of our own state, made if there is none; a MachineError if it cannot be."""
    folder = home(environ)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        refused = "" if os.access(folder, os.W_OK) else f"{folder} is read-only"
    except OSError as error:
        refused = str(error)
    if refused:
        raise MachineError(f"METAREC_HOME must be a folder that can be written, got {refused}")
    return folder


def cache(environ: Environ, store: Path) -> Path | None:
    """Return where a node caches the arrays of a store: `METAREC_CACHE`, else the store's folder.

    None if that folder is read-only.
    """
    # Everything of ours that uses Ray imports this module; the store's brings polars, 70 MB.
    from metarec_ray.data.store.versions import CACHE

    named = environ.get("METAREC_CACHE")
    if named:
        return Path(named).expanduser().resolve()
    return store / CACHE if os.access(store, os.W_OK) else None


LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


def spare_loopback(environ: Environ) -> None:
    """Except this machine's own addresses from the proxies of the environment, for children too."""
    excepted = (environ.get("no_proxy") or environ.get("NO_PROXY", "")).split(",")
    if "*" in excepted:
        return
    theirs = filter(None, map(str.strip, excepted))
    names = ",".join(dict.fromkeys([*theirs, *LOOPBACK]))
    environ.update(no_proxy=names, NO_PROXY=names)


def require_token_mode(environ: Environ) -> None:
    """Ask for token authentication unless the user has decided; switch Ray's telemetry off.

    If ray is imported already, an unset mode is left alone: Ray's processes would see the change
    and the library in this process would not, and they would refuse each other.
    """
    spare_loopback(environ)
    environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Tune's newer output prints tables to stdout, where only results belong.
    environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # A worker's report waits until the controller polls; Ray's default is every two seconds.
    environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
    if "ray" not in sys.modules:
        environ.setdefault("RAY_AUTH_MODE", "token")


def use_own_token(environ: Environ) -> Path | None:
    """Point Ray at our token file, made on first use; None if the user has named a token.

    None, too, where no file can be written: then a new token is in the environment.

    Raises:
        MachineError: what the user has named is no token.

    """
    if require_named_token(environ):
        return None
    try:
        path = token_file(writable_home(environ))
    except MachineError:
        environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        return None
    environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    return path


def require_named_token(environ: Environ) -> bool:
    """Return whether the user has named a token; a MachineError if what is named is none."""
    if environ.get("RAY_AUTH_TOKEN"):
        environ["RAY_AUTH_TOKEN"] = usable_secret(environ["RAY_AUTH_TOKEN"], "RAY_AUTH_TOKEN")
        return True
    if environ.get("RAY_AUTH_TOKEN_PATH"):
        _require_token(Path(environ["RAY_AUTH_TOKEN_PATH"]))
        return True
    return False


def _require_token(path: Path) -> None:
    place = f"RAY_AUTH_TOKEN_PATH={path}"
    try:
        narrow(path)
        text = path.read_text("utf-8", "replace")
    except OSError as error:
        told = f"RAY_AUTH_TOKEN_PATH must name a file with a token, got {error.strerror}: unset it"
        raise MachineError(f"{told} ({path})") from error
    if not usable_secret(text, place):
        raise MachineError(
            f"RAY_AUTH_TOKEN_PATH must name a file with a token, it is empty: {path}"
        )


def narrow(path: Path) -> None:
    """Take from others the right to read a token file of ours, and say so."""
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077 and found.st_uid == os.geteuid():
        path.chmod(0o600)
        log.warning("%s had mode %04o, others could read it: it has 0600 now", path, mode)


def token_file(folder: Path) -> Path:
    """Return `folder/auth_token` (mode 0600); a new token of 256 bits if there is none."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "auth_token"
    temporary = folder / f".auth_token.{secrets.token_hex(4)}"
    try:
        if not path.exists():
            write_private(temporary, secrets.token_hex(32))
            os.link(temporary, path)
    except FileExistsError:
        # Another process made the token in the meantime: that one counts.
        return path
    finally:
        temporary.unlink(missing_ok=True)
    narrow(path)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file that others cannot read at any moment."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
