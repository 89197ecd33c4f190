"""A disk that fails at the n-th call of whoever writes to it, and a process that dies there.

Python's calls are counted: of `os`, and of files that are opened to be written. What is written by
a library's own code counts as two calls: one before its file is there, one when half of it is.
"""

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NAMES = ("mkdir", "open", "fsync", "rename", "replace", "unlink", "rmdir")
"""Calls of `os`, which pathlib, shutil and tempfile use."""
WRITING = frozenset("wax+")


class Killed(BaseException):
    """What no `except Exception` sees: the process ends here."""


class Fault(NamedTuple):
    """What happens at the n-th call.

    Attributes:
        error: of the call.
        lasting: whether all calls after it fail, too; what a file holds is closed all the same.

    """

    error: Callable[[], BaseException]
    lasting: bool


FAULTS = {
    "a kill": Fault(Killed, lasting=True),
    "one error": Fault(lambda: OSError(5, "Input/output error"), lasting=False),
    "a full disk": Fault(lambda: OSError(28, "No space left on device"), lasting=True),
}
NOTHING = Fault(Killed, lasting=False)


class Disk:
    """Counts calls, and raises at those that fail."""

    def __init__(self, at: int, fault: Fault):
        self.at, self.fault, self.calls = at, fault, 0

    def call(self) -> None:
        number, self.calls = self.calls, self.calls + 1
        if number == self.at or (self.fault.lasting and number > self.at):
            raise self.fault.error()


class _File:
    """A file that is written to, whose calls are counted."""

    def __init__(self, file: Any, disk: Disk):
        self._file, self._disk = file, disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, data: Any) -> int:
        try:
            self._disk.call()
        except BaseException:
            self._file.write(data[: len(data) // 2])
            raise
        return self._file.write(data)

    def flush(self) -> None:
        self._disk.call()
        self._file.flush()

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
            self._disk.call()


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    fault: Fault,
    libraries: tuple[tuple[Any, str, int], ...] = (),
) -> Iterator[Disk]:
    """Let the `at`-th call, counted from 0, fail while a `with` block runs.

    `libraries` are functions that write a file by themselves: where each is looked up, its name,
    and which of its arguments is the path.
    """
    disk = Disk(at, fault)
    with monkeypatch.context() as patch:
        for name in NAMES:
            patch.setattr(os, name, _counted(getattr(os, name), disk))
        opened = _opened(io.open, disk)
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        for place, name, argument in libraries:
            patch.setattr(place, name, _torn(getattr(place, name), argument, disk))
        yield disk


def _counted(real: Callable[..., Any], disk: Disk) -> Callable[..., Any]:
    def call(*args: Any, **more: Any) -> Any:
        disk.call()
        return real(*args, **more)

    return call


def _opened(real: Callable[..., Any], disk: Disk) -> Callable[..., Any]:
    def call(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        if not WRITING & set(mode):
            return real(file, mode, *args, **more)
        disk.call()
        return _File(real(file, mode, *args, **more), disk)

    return call


def _torn(real: Callable[..., Any], argument: int, disk: Disk) -> Callable[..., Any]:
    def call(*args: Any, **more: Any) -> Any:
        disk.call()
        made, path = real(*args, **more), Path(args[argument])
        try:
            disk.call()
        except BaseException:
            os.truncate(path, path.stat().st_size // 2)
            raise
        return made

    return call
