"""What is told of a sweep: its trials, the value of each at every rung, why one failed.

Knows the files that Ray Tune keeps of trials; does not know who is told (`engine.tracking`).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from metarec_ray.config.experiment import Experiment
from metarec_ray.data.store.manifest import Manifest
from metarec_ray.engine.tracking.tracked import (
    FAILED_BY,
    Point,
    Status,
    Tracked,
    finite,
    flat,
    params_of,
    provenance,
    unsecret,
)
from metarec_ray.engine.tune.group import ENDED, trials_of
from metarec_ray.engine.tune.judged import SPREAD, WHY
from metarec_ray.errors import last_line

TIME = "timestamp"
_ENDED: dict[str, Status] = {"TERMINATED": "finished", "ERROR": "failed"}


class SweepRuns:
    """A sweep as a run, and its trials as runs of it.

    Attributes:
        status: of the sweep.

    """

    def __init__(
        self,
        experiment: Experiment,
        manifest: Manifest,
        folder: Path,
        metric: str,
        *,
        words: Sequence[str] = sys.argv,
    ):
        """`folder` is where Tune writes, `metric` what trials are compared by."""
        self.experiment, self.folder, self.metric = experiment, folder, metric
        self.params, self.tags = params_of(experiment), provenance(manifest, words)
        self.best: list[Point] = []
        self.status = "running"

    status: Status

    def finish(self, best: Mapping[str, Any], path: Path) -> None:
        """Take the row of the best trial, and where its configuration lies."""
        self.best = [Point(best["step"], finite({f"best_{self.metric}": best[self.metric]}))]
        values = {f"metarec.best.{key}": text for key, text in flat(best["values"]).items()}
        self.tags |= {"metarec.best": str(path), **values}

    def known(self) -> list[Tracked]:
        """Return the sweep and the trials that have begun."""
        name = self.experiment.directory.resolve().name
        own = Tracked("", name, self.params, dict(self.tags), self.best, self.status)
        return [own, *(one for state in trials(self.folder) for one in self._trials(state))]

    def _trials(self, state: Mapping[str, Any]) -> list[Tracked]:
        """Return what Tune calls a trial: one, none before it has begun, or a group of them."""
        number = str(state["experiment_tag"]).partition("_")[0]
        place = self.folder / str(state["relative_logdir"])
        reports = list(_reports(place / "result.json"))
        last = trials_of(reports[-1]) if reports else []
        if last:
            return [self._of_group(state, number, reports, one) for one in range(len(last))]
        found = self._trial(state, number, place, reports)
        return [] if found is None else [found]

    def _of_group(
        self, state: Mapping[str, Any], number: str, reports: list[dict[str, Any]], one: int
    ) -> Tracked:
        """Return a trial that was trained together with others."""
        its = [trials_of(report)[one] | {TIME: report.get(TIME)} for report in reports]
        reached = {report["step"]: report for report in its if "step" in report}
        last, status = its[-1], _ENDED.get(state["status"], self.status)
        if ENDED in last:
            status = "failed" if WHY in last else "finished"
        tags = {FAILED_BY: unsecret(str(last[WHY]))} if WHY in last else {}
        points = [self._rung(report) for report in reached.values()]
        name = f"trial-{number}-{one}"
        return Tracked(name, name, flat(dict(last["values"] or {})), tags, points, status)

    def _trial(
        self, state: Mapping[str, Any], number: str, place: Path, reports: list[dict[str, Any]]
    ) -> Tracked | None:
        status, why = _ENDED.get(state["status"], self.status), None
        if status == "failed":
            why = _error(place)
        elif reports and WHY in reports[-1]:
            status, why = "failed", reports[-1][WHY]
        if not reports and state["status"] not in _ENDED:
            return None
        tags = {} if why is None else {FAILED_BY: unsecret(str(why))}
        points = [self._rung(report) for report in reports]
        name = f"trial-{number}"
        return Tracked(name, name, flat(state["config"]), tags, points, status)

    def _rung(self, report: Mapping[str, Any]) -> Point:
        values = finite({key: report[key] for key in (SPREAD, self.metric) if key in report})
        return Point(report["step"], values, report.get(TIME))


def trials(folder: Path) -> list[dict[str, Any]]:
    """Return what Tune keeps of each trial, in their order; [] where it keeps nothing."""
    for path in sorted(folder.glob("experiment_state-*.json"))[-1:]:
        with suppress(OSError, ValueError, KeyError, TypeError):  # being written
            kept = json.loads(path.read_text("utf-8"))["trial_data"]
            return [json.loads(state) for state, *_ in kept]
    return []


def _reports(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with suppress(OSError, ValueError):  # a line may be half written
        for line in path.read_text("utf-8").splitlines():
            found.append(json.loads(line))
    return [report for report in found if "step" in report]


def _error(place: Path) -> str:
    text = None
    with suppress(OSError):
        text = (place / "error.txt").read_text("utf-8", errors="replace")
    return last_line(text, "its process ended")
