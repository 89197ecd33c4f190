"""What is told of a training: its folder's lines of progress, those of its members, its result.

Knows the files of a run; does not know who is told (`engine.tracking`).
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metarec_ray.config.experiment import Experiment
from metarec_ray.data.store.manifest import Manifest
from metarec_ray.engine.tracking.tracked import (
    Point,
    Status,
    Tracked,
    finite,
    flat,
    params_of,
    provenance,
)
from metarec_ray.training.run_folder import metrics_log
from metarec_ray.training.run_folder.movement import MEMBERS

LOSS = "query_loss"


class TrainingRuns:
    """A training as a run, and its members or folds as runs of it.

    Attributes:
        status: of the training.

    """

    def __init__(
        self,
        experiment: Experiment,
        manifest: Manifest,
        *,
        words: Sequence[str] = sys.argv,
        clock: Callable[[], float] = time.time,
    ):
        """`words` are the command line, `clock` says when a line was first seen."""
        self.experiment, self.clock, self.status = experiment, clock, "running"
        self.params, self.tags = params_of(experiment), provenance(manifest, words)
        self.seen: dict[tuple[str, int], float] = {}
        self.metrics: Mapping[str, Any] = {}

    status: Status

    def finish(self, checkpoint: Path, metrics: Mapping[str, Any], parameters_sha256: str) -> None:
        """Take what the training ended with."""
        self.metrics = metrics
        self.tags |= {
            "metarec.checkpoint": str(checkpoint),
            "metarec.parameters_sha256": parameters_sha256,
        }

    def known(self) -> list[Tracked]:
        """Return the run and its members."""
        folder = self.experiment.directory
        points = self._points("", folder)
        if self.metrics:
            points = [*points, self._last(points)]
        own = Tracked("", folder.resolve().name, self.params, dict(self.tags), points, self.status)
        return [own, *(self._member(path) for path in sorted((folder / MEMBERS).glob("*/")))]

    def _member(self, folder: Path) -> Tracked:
        key = f"{MEMBERS}/{folder.name}"
        params = flat(self.experiment.blend.members.get(folder.name, {}))
        return Tracked(key, folder.name, params, {}, self._points(key, folder), self.status)

    def _points(self, key: str, folder: Path) -> list[Point]:
        return [
            Point(
                line["step"],
                _told(line),
                self.seen.setdefault((key, line["step"]), self.clock()),
            )
            for line in metrics_log.read(folder / metrics_log.NAME)
        ]

    def _last(self, points: Sequence[Point]) -> Point:
        """Return what the last checkpoint knows beside the last line, of the same step."""
        last = points[-1] if points else Point(0, {}, self.clock())
        more = {k: v for k, v in finite(self.metrics).items() if k not in last.values}
        return last._replace(values=more)


def _told(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the values of a line, the loss last: with it a line is whole."""
    values = finite({key: value for key, value in line.items() if key not in ("step", "steps")})
    return values | ({LOSS: values.pop(LOSS)} if LOSS in values else {})
