"""Runs as MLflow keeps them: one MLflow run each, found again by whoever goes on.

Knows what MLflow has been told and what not; does not know its client (`mlflow_client`), or where
what is told comes from.
"""

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from metarec_ray.atomic import replace_text
from metarec_ray.engine.tracking.tracked import (
    FAILED_BY,
    Point,
    Status,
    Tracked,
    Undelivered,
    named,
)

NAME = "mlflow.json"
FOLDER, KEY, PARENT = "metarec.folder", "metarec.key", "mlflow.parentRunId"
"""Tags of every run: whose folder it is of, what it is there, and the run that it belongs to."""
_POINTS = 100  # in a request, of at most ten values each: MLflow takes a thousand
_PARAMS = 100
Metric = tuple[str, float, int, float]
"""Name, value, step, and time in seconds since 1970."""


class Found(NamedTuple):
    """A run that MLflow has."""

    id: str
    key: str
    status: Status


class Client(Protocol):
    """What is asked of MLflow; each call is done, or raises Undelivered."""

    def find(self, folder: str) -> list[Found]:
        """Return the runs whose tag `FOLDER` is this, the oldest first."""
        ...

    def create(self, name: str, tags: Mapping[str, str]) -> str:
        """Begin a run and return its id."""
        ...

    def delete(self, run: str) -> None:
        """Delete a run."""
        ...

    def params(self, run: str) -> set[str]:
        """Return the names of the parameters that a run has."""
        ...

    def steps(self, run: str, metric: str) -> set[int]:
        """Return the steps at which a run has a value of a metric."""
        ...

    def log(
        self,
        run: str,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add metrics and parameters to a run, set its tags."""
        ...

    def set_status(self, run: str, status: Status) -> None:
        """Say that a run runs, or how it ended."""
        ...


class _Run(NamedTuple):
    """What MLflow has of a run."""

    id: str
    points: set[tuple[str, int]]  # last names of points, and steps
    tags: dict[str, str]
    status: list[Status]  # one
    before: Status  # of a command that is refused


class MlflowSink:
    """Tells MLflow what it does not have yet of the runs of a folder.

    The folder keeps a mark of its own in `mlflow.json`, written before MLflow is asked anything:
    by it a run is found again after a kill, on another machine, and when the answer to its creation
    was lost. What MLflow has of it is asked of MLflow itself, so that nothing is told twice.
    """

    def __init__(
        self,
        client: Client,
        folder: Path,
        *,
        uri: str,
        clock: Callable[[], float] = time.time,
    ):
        self.client, self.folder, self.uri, self.clock = client, folder, uri, clock
        self.mark = _mark(folder / NAME)
        self.runs: dict[str, _Run] = {}
        self.ended: set[str] = set()
        self.begun: dict[str, Found] | None = None
        self.with_params: set[str] = set()

    def deliver(self, runs: Sequence[Tracked]) -> None:
        """Tell what MLflow does not have.

        After a call without an answer it is asked what it has.
        """
        if self.begun is None:
            self.begun = self._found()
        for run in runs:
            if run.key in self.ended:
                continue
            try:
                self._deliver(run, self.begun)
            except Undelivered as error:
                if not error.refused:
                    self.begun = None if run.key not in self.begun else self.begun
                    self.runs.pop(run.key, None)
                raise

    def _found(self) -> dict[str, Found]:
        """Return the runs of the folder by their keys; delete what a lost answer left twice."""
        found: dict[str, Found] = {}
        for one in self.client.find(self.mark):
            if one.key in found:
                self.client.delete(one.id)
            else:
                found[one.key] = one
        return found

    def _deliver(self, run: Tracked, begun: dict[str, Found]) -> None:
        at = self.runs.get(run.key) or self._opened(run, begun)
        if at is None:
            return
        self._tell_params(run, at)
        marked = [((_last(point), point.step), point) for point in run.points if point.values]
        new = [(mark, point) for mark, point in marked if mark not in at.points]
        for first in range(0, len(new), _POINTS):
            some = new[first : first + _POINTS]
            self.client.log(at.id, metrics=[m for _, point in some for m in self._metrics(point)])
            at.points.update(mark for mark, _ in some)
        known = {FAILED_BY: ""} if FAILED_BY in at.tags else {}
        tags = {k: v for k, v in (known | dict(run.tags)).items() if at.tags.get(k) != v}
        if tags:
            self.client.log(at.id, tags=tags)
            at.tags.update(tags)
        status = at.before if run.status == "refused" else run.status
        if at.status[0] != status:
            self.client.set_status(at.id, status)
            at.status[0] = status

    def _opened(self, run: Tracked, begun: dict[str, Found]) -> _Run | None:
        """Return what MLflow has of a run, begun if there is none; None of one that is all told."""
        found, points = begun.get(run.key), set[tuple[str, int]]()
        if found is None:
            tags = {FOLDER: self.mark, KEY: run.key}
            if run.key:
                tags[PARENT] = begun[""].id
            found = Found(self.client.create(run.name, tags), run.key, "running")
            begun[run.key] = found
            self._write(begun)
        elif run.key and found.status == run.status == "finished":
            self.ended.add(run.key)  # The status is told last.
            return None
        else:
            names = dict.fromkeys(_last(point) for point in run.points if point.values)
            points = {(name, step) for name in names for step in self.client.steps(found.id, name)}
        # Why it failed before says nothing of now.
        tags = {FAILED_BY: "?"} if found.status == "failed" else {}
        before = "failed" if found.status == "running" else found.status
        self.runs[run.key] = _Run(found.id, points, tags, [found.status], before)
        return self.runs[run.key]

    def _tell_params(self, run: Tracked, at: _Run) -> None:
        """Tell the parameters that MLflow has not: it refuses another value of one that it has."""
        if run.key in self.with_params:
            return
        has, params = self.client.params(at.id), {named(k): v for k, v in run.params.items()}
        missing = [key for key in params if key not in has]
        for first in range(0, len(missing), _PARAMS):
            some = missing[first : first + _PARAMS]
            self.client.log(at.id, params={key: params[key] for key in some})
        self.with_params.add(run.key)

    def _metrics(self, point: Point) -> list[Metric]:
        when = self.clock() if point.time is None else point.time
        return [(name, value, point.step, when) for name, value in point.values.items()]

    def _write(self, begun: Mapping[str, Found]) -> None:
        runs = {key or ".": found.id for key, found in begun.items()}
        tree = {"mark": self.mark, "tracking_uri": self.uri, "runs": runs}
        replace_text(self.folder / NAME, json.dumps(tree, indent=1) + "\n")


def _last(point: Point) -> str:
    return next(reversed(list(point.values)), "")


def _mark(path: Path) -> str:
    """Return the mark of a run's folder, made at the first time."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(path.read_text("utf-8"))["mark"])
    mark = uuid.uuid4().hex
    replace_text(path, json.dumps({"mark": mark}) + "\n")
    return mark
