"""Who may talk to a Ray cluster: token mode, and a token file that only its owner can read.

Knows environment variables and one file; does not import ray, which reads the mode once, when it
is imported.
"""

import os
import secrets
import sys
from collections.abc import MutableMapping
from pathlib import Path

from metarec_ray.data.store.versions import CACHE

Environ = MutableMapping[str, str]


def home(environ: Environ) -> Path:
    """Return the folder of our own state: `METAREC_HOME`, else `~/.metarec`."""
    named = environ.get("METAREC_HOME")
    return Path(named).expanduser().resolve() if named else Path.home() / ".metarec"


def cache(environ: Environ, store: Path) -> Path | None:
    """Return where a node caches the arrays of a store: `METAREC_CACHE`, else the store's folder.

    None if that folder is read-only.
    """
    named = environ.get("METAREC_CACHE")
    if named:
        return Path(named).expanduser().resolve()
    return store / CACHE if os.access(store, os.W_OK) else None


def require_token_mode(environ: Environ) -> None:
    """Ask for token authentication unless the user has decided; switch Ray's telemetry off.

    If ray is imported already, an unset mode is left alone: Ray's processes would see the change
    and the library in this process would not, and they would refuse each other.
    """
    environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Tune's newer output prints tables to stdout, where only results belong.
    environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # A worker's report waits until the controller polls; Ray's default is every two seconds.
    environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
    if "ray" not in sys.modules:
        environ.setdefault("RAY_AUTH_MODE", "token")


def use_own_token(environ: Environ) -> Path | None:
    """Point Ray at our token file, made on first use; None if the user has named a token."""
    if environ.get("RAY_AUTH_TOKEN") or environ.get("RAY_AUTH_TOKEN_PATH"):
        return None
    path = token_file(home(environ))
    environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    return path


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
    path.chmod(0o600)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file that others cannot read at any moment."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
