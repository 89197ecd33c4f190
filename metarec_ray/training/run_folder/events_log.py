"""What happened to a run, one line an event, in `events.jsonl`: starts, failures, the end.

Does not know who computes the run, or who reads the file.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from metarec_ray.atomic import append_line

NAME = "events.jsonl"
Kind = Literal["started", "failed", "resubmitted", "finished", "tracking"]


class Event(NamedTuple):
    """One thing that happened.

    Attributes:
        kind: `started`: workers begin, or begin again; `failed`: some of them are gone;
            `resubmitted`: its driver was, and a supervisor begins it again; `tracking`: who is told
            of the run does not answer, which changes nothing in it.
        time: seconds since 1970.
        sentence: for people.
        step: of the run, where it is known.
        nodes: names of the nodes that compute, of a start.

    """

    kind: Kind
    time: float
    sentence: str
    step: int | None = None
    nodes: tuple[str, ...] = ()


def append(
    folder: Path, kind: Kind, sentence: str, *, step: int | None = None, nodes: tuple[str, ...] = ()
) -> Event:
    """Add one event of now to a run's folder, and return it."""
    event = Event(kind, round(time.time(), 3), sentence, step, nodes)
    append_line(folder / NAME, json.dumps(event._asdict()))
    return event


def read_own(folder: Path) -> Iterator[Event]:
    """Yield the events of the run itself, as `read`, without those of who is told of it."""
    return (event for event in read(folder) if event.kind != "tracking")


def read(folder: Path) -> Iterator[Event]:
    """Yield the events of a run's folder, oldest first, without lines that are not whole."""
    path = folder / NAME
    if not path.is_file():
        return
    for line in path.read_text("utf-8", errors="replace").splitlines():
        with suppress(ValueError, TypeError):
            found = Event(**json.loads(line))
            yield found._replace(nodes=tuple(found.nodes))
