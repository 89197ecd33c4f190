"""Runs as TensorBoard shows them: an event file a process and run, with what no other file holds.

Knows event files; does not know where what is told comes from. Ray Tune brings `tensorboardX`.
"""

import struct
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from metarec_ray.engine.tracking.tracked import Tracked

FOLDER = "tensorboard"
_HEADER, _FOOTER = struct.Struct("<Q4x"), 4  # length and checksum; checksum of the content


class TensorboardSink:
    """Writes the points of runs below a folder, each point once, whoever wrote it."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time):
        self.folder, self.clock = folder, clock
        self._writers: dict[str, Any] = {}
        self._held: dict[str, set[tuple[str, int]]] = {}

    def deliver(self, runs: Sequence[Tracked]) -> None:
        """Write what no file holds."""
        try:
            for run in runs:
                if any(point.values for point in run.points):
                    self._deliver(run)
        except OSError:  # half a record may be there: the rest goes into files of its own
            self._writers.clear()
            self._held.clear()
            raise

    def _deliver(self, run: Tracked) -> None:
        event, summary = _message("event", "Event"), _message("summary", "Summary")
        if run.key not in self._held:
            self._held[run.key] = set(held(self.folder / run.key))
        has, now = self._held[run.key], self.clock()
        for point in run.points:
            new = {name: x for name, x in point.values.items() if (name, point.step) not in has}
            if new:
                values = [summary.Value(tag=name, simple_value=x) for name, x in new.items()]
                when = now if point.time is None else point.time
                self._writer(run.key).write_event(
                    event(wall_time=when, step=point.step, summary=summary(value=values))
                )
                has.update((name, point.step) for name in new)
        if run.key in self._writers:
            self._writers[run.key].flush()

    def _writer(self, key: str) -> Any:
        """Return the writer of a run's file; what a disk refuses is an OSError, in this thread."""
        if key not in self._writers:
            from tensorboardX.event_file_writer import EventsWriter

            folder = self.folder / key
            folder.mkdir(parents=True, exist_ok=True)
            # Files are named by the second, and one of the same name would be begun anew.
            suffix = f".{uuid.uuid4().hex[:8]}"
            self._writers[key] = EventsWriter(str(folder / "events"), suffix)
        return self._writers[key]


def held(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and step of each value in the event files of a folder."""
    event = _message("event", "Event")
    for path in sorted(folder.glob("*tfevents*")):
        for content in _records(path.read_bytes()):
            found = event.FromString(content)
            for value in found.summary.value:
                yield value.tag, found.step


def _records(content: bytes) -> Iterator[bytes]:
    """Yield the whole records of a file; a process that was killed leaves half of one."""
    at = 0
    while at + _HEADER.size <= len(content):
        (length,) = _HEADER.unpack_from(content, at)
        first, at = at + _HEADER.size, at + _HEADER.size + length + _FOOTER
        if at > len(content):
            return
        yield content[first : first + length]


def _message(file: str, name: str) -> Any:
    """Return a class that protobuf makes when its module is imported."""
    return getattr(import_module(f"tensorboardX.proto.{file}_pb2"), name)
