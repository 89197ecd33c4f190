"""Whether a run, a sweep or a bench moves: what its folder says, without asking the cluster.

Knows the files of a run; does not know who computes it.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from metarec_ray.checkpoint import CHECKPOINTS, CONFIG, STATE, committed
from metarec_ray.engine.cluster.one_writer import holder
from metarec_ray.engine.train.counts import Count, count
from metarec_ray.errors import DataError
from metarec_ray.storage import lease as leases
from metarec_ray.storage.places import located
from metarec_ray.training.run_folder import events_log, metrics_log, movement
from metarec_ray.training.run_folder.events_log import Event
from metarec_ray.training.run_folder.movement import MEMBERS

FAILED = ("failed", "resubmitted")
"""Events after which workers start again."""
PATIENCE_S = 60.0
"""Without a line, a checkpoint or an event for so long, a run waits for something."""


class Status(NamedTuple):
    """What is known of a run from its folder.

    Attributes:
        state: `running`; `waiting`, when it has not moved for `PATIENCE_S`; `stopped`, when nobody
            writes it and it is not finished; `finished`.
        member: part of the run that moved last, of a blend or a second stage.
        step: of the last line of progress.
        steps: that it will take.
        loss: of the last line of progress.
        since_s: seconds since it last moved.
        waiting_for: what, of one that waits.
        checkpoint_age_s: seconds since the newest checkpoint was written; None without one.
        nodes: that compute it, or did, each once.
        writer: the process that drives it.
        last_failure: the last one, in a sentence.
        done: trials of a sweep or cells of a bench in the folder; None without any.

    """

    state: Literal["running", "waiting", "stopped", "finished"]
    member: str | None
    step: int | None
    steps: int | None
    loss: float | None
    since_s: float
    waiting_for: str | None
    checkpoint_age_s: float | None
    nodes: tuple[str, ...]
    writer: str | None
    last_failure: str | None
    done: Count | None = None

    def sentence(self) -> str:
        """Return the whole in one line for people."""
        moved = _duration(self.since_s)
        running = self.state == "running"
        said = (
            f"running, moved {moved} ago" if running else f"{self.state} for {moved}",
            self.waiting_for and f"waiting for {self.waiting_for}",
            self._progress(),
            self.done.sentence() if self.done else None,
            self._checkpoint(),
            f"on {', '.join(self.nodes)}" if self.nodes else None,
            self.writer and f"driven by {self.writer}",
            self.last_failure and f"last failure: {self.last_failure}",
        )
        return "; ".join(part for part in said if part)

    def _progress(self) -> str | None:
        if self.step is None:
            return None
        of = f"step {self.step} of {self.steps}, loss {self.loss:.4f}"
        return f"{of} ({self.member})" if self.member else of

    def _checkpoint(self) -> str | None:
        age = self.checkpoint_age_s
        return None if age is None else f"checkpoint of {_duration(age)} ago"


def status(folder: Path, *, clock: Callable[[], float] = time.time) -> Status:
    """Return what is known of the run in `folder`; DataError if there is none."""
    if not folder.is_dir():
        raise DataError(f"a run is a folder, {folder} is none, or is not seen from this machine")
    parts = [folder, *sorted((folder / MEMBERS).glob("*/"))]
    moved = {part: max(map(movement.changed, _files(part)), default=0.0) for part in parts}
    last_move = max(*moved.values(), movement.moved(folder))
    if not last_move and holder(folder) is None:
        raise DataError(
            f"a run has metrics, events or checkpoints, {folder} holds none of them: is it a "
            "run.dir, and seen from this machine?"
        )
    at = max(parts, key=lambda part: moved[part])
    events, lines = list(events_log.read_own(at)), list(metrics_log.read(at / metrics_log.NAME))
    last: dict[str, Any] = lines[-1] if lines else {}
    checkpoints = committed(folder / CHECKPOINTS) or committed(at / CHECKPOINTS)
    writer, now = holder(folder) or _writer_elsewhere(folder), clock()
    since = max(0.0, now - (last_move or now))
    done = count(folder)
    state = _state(folder, writer, since, done)
    failures = [event for event in events if event.kind in FAILED]
    starts = [event for event in events if event.kind == "started"]
    return Status(
        state=state,
        member=None if at == folder else at.name,
        step=last.get("step"),
        steps=last.get("steps"),
        loss=last.get("query_loss"),
        since_s=round(since, 1),
        waiting_for=_waiting_for(events, last, done) if state == "waiting" else None,
        checkpoint_age_s=_age(checkpoints[-1], now) if checkpoints else None,
        nodes=tuple(dict.fromkeys(starts[-1].nodes)) if starts else (),
        writer=writer,
        last_failure=failures[-1].sentence if failures else None,
        done=done,
    )


def _writer_elsewhere(folder: Path) -> str | None:
    """Return who writes a run in an object store, on whatever machine."""
    copy = located(folder).copy()
    return None if copy is None else leases.living(copy.objects)


def _state(
    folder: Path, writer: str | None, since: float, done: Count | None
) -> Literal["running", "waiting", "stopped", "finished"]:
    if writer is None:
        finished = done.finished if done else _is_finished(folder)
        return "finished" if finished else "stopped"
    return "running" if since < PATIENCE_S else "waiting"


def _is_finished(folder: Path) -> bool:
    """Return whether the newest checkpoint is that of the last step, or of a fit at once.

    The second is of step 0, of which training writes none. Nothing is parsed further: a run that
    another version wrote is finished, too.
    """
    found = committed(folder / CHECKPOINTS)
    if not found:
        return False
    with suppress(OSError, ValueError, KeyError, TypeError):
        state, asked = (
            json.loads((found[-1] / name).read_text("utf-8")) for name in (STATE, CONFIG)
        )
        return state["step"] == 0 or state["step"] >= asked["train"]["steps"]
    return False


def _waiting_for(events: list[Event], last: dict[str, Any], done: Count | None) -> str:
    if done is not None:
        return f"the next of {done.unit}"
    if not events and not last:
        return "workers to start"
    if events and events[-1].kind in FAILED:
        return "workers to start again"
    return "the next line of progress"


def _age(path: Path, now: float) -> float:
    return round(max(0.0, now - movement.changed(path)), 1)


def _files(folder: Path) -> list[Path]:
    """Return what shows that a run's folder moves."""
    names = (metrics_log.NAME, events_log.NAME)
    found = [folder / name for name in names if (folder / name).is_file()]
    return found + committed(folder / CHECKPOINTS)


def _duration(seconds: float) -> str:
    """Return a duration in its largest unit.

    >>> _duration(59), _duration(150), _duration(9000)
    ('59 s', '2 min', '2 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min" if seconds < 3600 else f"{seconds // 3600:.0f} h"
