"""Files that appear whole or not at all, and replace older ones in one step."""

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO


def replace_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 in place of the file at `path`, as `replace` does."""
    replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, sync and rename it; makes the folder if there is none.

    After an error, of which none is caught, and after a kill or a power cut the file is the old one
    or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of this process alone: two that write one file must not rename each other's half.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        write(temporary)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def append_line(path: Path, line: str) -> None:
    """Add one line of UTF-8 to a file, on a line of its own after one that was cut short."""
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        torn = file.read(1) not in (b"", b"\n")
        file.write(b"\n" * torn + line.encode() + b"\n")


def lock(stream: IO, *, wait: bool, shared: bool = False) -> None:
    """Lock an open file for as long as it is open; a file system without locks has none.

    A `shared` lock is for looking: it keeps out only those that want the file for themselves.

    Raises:
        BlockingIOError: another process holds the lock, and it is not to be waited for.

    """
    try:
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(stream, how | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def sync(path: Path) -> None:
    """Bring to disk what a file holds, mapped pages too, or what a folder's files are called."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
