"""A run has one writer at a time: a lock in its folder that ends with the process that holds it.

Knows a file and process ids; does not know what is written. Whichever process drives a run holds
the lock: a verb, or the job that was submitted for it.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from metarec_ray.atomic import lock
from metarec_ray.errors import ConfigError

NAME = ".writer"


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold a run's folder for the length of a `with` block; make it if there is none.

    A folder that is still empty at the end is removed again.

    Raises:
        ConfigError: another process holds it.

    """
    folder = folder.expanduser().resolve()
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / NAME) as stream:
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
        try:
            yield
        finally:
            (folder / NAME).unlink(missing_ok=True)
            for path in made:
                with suppress(OSError):  # no longer empty
                    path.rmdir()


@contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    while True:
        with path.open("a+", encoding="utf-8") as stream:
            try:
                lock(stream, wait=False)
            except BlockingIOError:
                holder = _holder(path)
                raise ConfigError(
                    f"a run is written by one process at a time, {path.parent} is by {holder}: "
                    "let it end, or choose another run.dir"
                ) from None
            # Who held it may have removed the file meanwhile: a lock on that keeps nobody out.
            if _names(path, stream):
                yield stream
                return


def _names(path: Path, stream: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        return path.read_text("utf-8") or "another"
    except FileNotFoundError:
        return "another"


def holder(folder: Path) -> str | None:
    """Return who writes a run's folder now, `process 17 on node-a`; None if nobody does."""
    path = folder / NAME
    try:
        with path.open("r", encoding="utf-8") as stream:
            try:
                lock(stream, wait=False, shared=True)
            except BlockingIOError:
                return _holder(path)
    except FileNotFoundError:
        pass
    return None
