"""API keys: where they are kept, and whether a request has one.

Knows keys and headers; does not know routes. The server's processes get only digests of keys, so
that no log, process list or stored state of theirs holds a key.
"""

import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from metarec_ray.errors import MachineError

VARIABLE = "METAREC_API_KEY"
MIN_CHARS = 16


class Keyring:
    """The keys of an endpoint, as SHA-256 digests."""

    def __init__(self, digests: tuple[bytes, ...]) -> None:
        if not digests:
            raise MachineError(f"an endpoint must have at least one API key, got none ({VARIABLE})")
        self.digests = digests

    @classmethod
    def of(cls, *keys: str) -> "Keyring":
        """Return the keyring of these keys."""
        return cls(tuple(_digest(key) for key in keys))

    def opens(self, key: str) -> bool:
        """Whether the key is on the keyring; it is compared with all keys, in constant time."""
        given = _digest(key)
        return any([hmac.compare_digest(given, digest) for digest in self.digests])


def presented(headers: Mapping[str, str]) -> str | None:
    """Return the key of `Authorization: Bearer KEY` or `X-API-Key: KEY`; None without one."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key")


def usable_secret(text: str, place: str) -> str:
    """Return a key or token without outer white space.

    Raises:
        MachineError: a character cannot travel in a header; it is named by its position only.

    """
    secret = text.strip()
    wrong = [at for at, char in enumerate(secret, start=1) if not " " <= char <= "~"]
    if wrong:
        raise MachineError(
            "a key or token must consist of printable ASCII characters, character "
            f"{wrong[0]} of it is none ({place})"
        )
    return secret


def find_key(environ: Mapping[str, str], path: Path) -> str | None:
    """Return the key of `METAREC_API_KEY`, else of the file, else None.

    Raises:
        MachineError: others than its owner can read the file, or a key is too short or cannot be
            sent.

    """
    key, place = environ.get(VARIABLE), VARIABLE
    if key is None:
        key, place = _kept(path), str(path)
    if key is None:
        return None
    key = usable_secret(key, place)
    if len(key) < MIN_CHARS:
        raise MachineError(
            f"an API key must have at least {MIN_CHARS} characters, got {len(key)} ({place})"
        )
    return key


def find_or_make_key(environ: Mapping[str, str], path: Path) -> str:
    """Return the key of `find_key`, else a new one of 256 bits, which is saved in the file."""
    found = find_key(environ, path)
    if found is not None:
        return found
    key = secrets.token_urlsafe(32)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise MachineError(
            f"an API key must be kept in a file, got {error}: set {VARIABLE}, or METAREC_HOME to a "
            "folder that can be written"
        ) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{key}\n")
    return key


def _kept(path: Path) -> str | None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise MachineError(
                f"an API key file must have mode 0600, got {mode:04o}: chmod 600 {path}"
            )
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MachineError(f"an API key file must be readable, got {error}") from error


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
