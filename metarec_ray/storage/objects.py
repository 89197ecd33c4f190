"""The objects below a URI: listed, read, written and removed, with patience.

Knows one folder of an object store, through Arrow; does not know what the objects are for. An
object appears whole or not at all, and replaces an older one in one step; there is no rename.
"""

import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa
from pyarrow import fs

from metarec_ray.data.files import file_systems
from metarec_ray.data.files.paths import split
from metarec_ray.errors import MachineError

Answer = TypeVar("Answer")
ATTEMPTS = 4
"""Arrow's clients try each request some times themselves, for some seconds."""
PAUSE_S = 0.5
"""Before the second attempt; doubled before each further one."""
_FINAL = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "NO_SUCH_BUCKET", "SIGNATURE_DOES_NOT_MATCH")
"""What no patience changes, in messages of Arrow."""


class Info(NamedTuple):
    """An object's size in bytes, and when the store says it was written (nanoseconds)."""

    size: int
    written: int


class Objects:
    """The objects below one URI; names are relative to it.

    Every method raises a MachineError that names the URI and the reason if the store has not
    answered as often as it was asked.
    """

    def __init__(
        self,
        uri: str,
        *,
        attempts: int = ATTEMPTS,
        sleep: Callable[[float], object] = time.sleep,
    ):
        self.uri = uri
        self.system, base = file_systems.at(*split(uri))
        self.base = base.rstrip("/")
        self.attempts, self.sleep = attempts, sleep

    def list(self) -> dict[str, Info]:
        """Return all objects by name."""
        selector = fs.FileSelector(self.base, recursive=True, allow_not_found=True)
        found = self._tried(lambda: self.system.get_file_info(selector))
        begin = len(self.base) + 1
        return {
            one.path[begin:]: Info(one.size or 0, one.mtime_ns or 0)
            for one in found
            if one.type == fs.FileType.File
        }

    def info(self, name: str) -> Info | None:
        """Return what is known of an object, None if there is none."""
        found = self._tried(lambda: self.system.get_file_info(self._path(name)))
        if found.type != fs.FileType.File:
            return None
        return Info(found.size or 0, found.mtime_ns or 0)

    def read(self, name: str) -> bytes | None:
        """Return an object's bytes, None if there is none."""

        def read() -> bytes:
            with self._input(name) as stream:
                return stream.read()

        try:
            return self._tried(read)
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write an object."""

        def write() -> None:
            with self._output(name) as stream:
                stream.write(data)

        self._tried(write)

    def upload(self, name: str, path: Path) -> None:
        """Write an object of a file's bytes; FileNotFoundError if the file is not there."""

        def upload() -> None:
            with path.open("rb") as source, self._output(name) as stream:
                shutil.copyfileobj(source, stream, 1 << 22)

        self._tried(upload)

    def download(self, name: str, path: Path) -> bool:
        """Write a file of an object's bytes, whole or not at all; return whether there is one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")

        def download() -> None:
            with self._input(name) as stream, temporary.open("wb") as target:
                shutil.copyfileobj(stream, target, 1 << 22)

        try:
            self._tried(download)
        except FileNotFoundError:
            temporary.unlink(missing_ok=True)
            return False
        temporary.replace(path)
        return True

    def remove(self, name: str) -> None:
        """Remove an object, if there is one."""
        with suppress(FileNotFoundError):
            self._tried(lambda: self.system.delete_file(self._path(name)))

    def now(self) -> int:
        """Return the store's time, nanoseconds; proves that objects can be written there."""
        name = f".probe-{uuid.uuid4().hex}"
        self.write(name, b"?")
        found = self.info(name)
        self.remove(name)
        return 0 if found is None else found.written

    def _path(self, name: str) -> str:
        return f"{self.base}/{name}"

    # Without `compression` what is called x.gz would be packed, or unpacked.
    def _input(self, name: str) -> pa.NativeFile:
        return self.system.open_input_stream(self._path(name), compression=None)

    def _output(self, name: str) -> pa.NativeFile:
        return self.system.open_output_stream(self._path(name), compression=None)

    def _tried(self, call: Callable[[], Answer]) -> Answer:
        pause = PAUSE_S
        for attempt in range(1, self.attempts + 1):
            try:
                return call()
            except FileNotFoundError:
                raise
            except (OSError, pa.ArrowException) as error:
                if attempt == self.attempts or any(word in str(error) for word in _FINAL):
                    raise MachineError(
                        f"an object store must answer, {self.uri} does not: "
                        f"{file_systems.reason(error)}"
                    ) from error
            self.sleep(pause)
            pause *= 2
        raise AssertionError("there is at least one attempt")
