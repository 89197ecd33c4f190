"""A group of a vectorised sweep: its trials trained as one stack, judged one by one at each rung.

Knows rungs and what is reported there; does not know the search. A trial that stops or diverges
leaves the stack, and the others go on.
"""

import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import tune

from metarec_ray import checkpoint as checkpoints
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.config.sweeping import Sweep
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster import access
from metarec_ray.engine.tune.judged import WHY, Judged, joined, judged
from metarec_ray.engine.tune.stopping import stopped
from metarec_ray.engine.tune.trial import no_value, reported
from metarec_ray.errors import RunFailed
from metarec_ray.training.stacked.stack import Stack

TRIALS, ENDED = "trials", "ended"
"""Keys of a report: what every trial of the group has reached, and the rung at which it ended."""
Report = dict[str, Any]


class Group:
    """Trials on their way: a stack for each part that they are judged on.

    Attributes:
        rung: that all have reached, or ended before.
        reports: of each trial the last one, with its `values`, and `ENDED` once it has.

    """

    def __init__(
        self, settings: Sweep, parts: list[Judged], asked: Sequence[Report], store: TaskStore
    ):
        """Initialise the trials of `asked`, whose values replace keys of the parts' experiments."""
        self.settings, self.parts = settings, parts
        self.metric = parts[0].judge.objective.metric
        self.stacks = [Stack(_each(part.experiment, asked), store) for part in parts]
        self.rung, self.reports = 0, [dict[str, Any](values=values) for values in asked]
        self._values: dict[int, list[float]] = {number: [] for number in range(len(asked))}

    @property
    def on_their_way(self) -> list[int]:
        """Numbers of the trials that have not ended."""
        return [n for n, report in enumerate(self.reports) if ENDED not in report]

    def climb(self) -> Report:
        """Train all trials up to the next rung; return what is reported there."""
        self.rung += 1
        until = self.settings.steps * self.rung // self.settings.rungs
        found = self._reached(until)
        for number, reports in found.items():
            report = joined(reports, self.metric, fits=len(self.parts))
            self.reports[number] |= report
            if WHY in report:
                self._end(number)
            else:
                self._values[number].append(report[self.metric])
        values = {number: self._values[number] for number in self.on_their_way}
        maximise = self.parts[0].judge.objective.mode == "max"
        rungs, scheduler = self.settings.rungs, self.settings.scheduler
        for number in stopped(scheduler, values, rungs=rungs, maximise=maximise):
            self._end(number)
        if self.rung == rungs:
            for number in self.on_their_way:
                self._end(number)
        finite = [v for one in self.reports if math.isfinite(v := one.get(self.metric, math.nan))]
        best = (max if maximise else min)(finite, default=math.nan)
        return {"step": until, "rung": self.rung, self.metric: best, TRIALS: self.reports}

    def save(self, folder: Path) -> None:
        """Write what `restore` reads: trials on their way whole, of the others their reports."""
        state = {"rung": self.rung, "reports": self.reports, "values": self._values}
        (folder / "group.json").write_text(json.dumps(state), "utf-8")
        for fit, stack in enumerate(self.stacks):
            for number in self.on_their_way:
                checkpoints.save(stack.trainers[number].checkpoint({}), _place(folder, number, fit))

    def restore(self, folder: Path) -> None:
        """Continue from a rung that was saved."""
        state = json.loads((folder / "group.json").read_text("utf-8"))
        self.rung, self.reports = state["rung"], state["reports"]
        self._values = {int(number): values for number, values in state["values"].items()}
        for fit, stack in enumerate(self.stacks):
            for number, trainer in list(stack.trainers.items()):
                if ENDED in self.reports[number]:
                    stack.drop(number)
                    continue
                path = _place(folder, number, fit)
                trainer.restore(checkpoints.load(path), path)

    def _reached(self, until: int) -> dict[int, list[Report]]:
        """Return what each trial reports of each of its fits; none after one without a value."""
        found: dict[int, list[Report]] = {number: [] for number in self.on_their_way}
        for part, stack in zip(self.parts, self.stacks, strict=True):
            stack.run(until)
            for number, reports in found.items():
                if reports and WHY in reports[-1]:
                    continue
                if (failed := stack.failed.get(number)) is not None:
                    lost = no_value(part.judge, RunFailed(failed.why))
                    reports.append({"step": failed.step} | lost)
                else:
                    reached = stack.trainers[number].checkpoint({})
                    reports.append(reported(part.judge, reached))
        return found

    def _end(self, number: int) -> None:
        self.reports[number][ENDED] = self.rung
        for stack in self.stacks:
            stack.drop(number)


def run_group(tree: dict[str, Any], store: Path, asked: Sequence[Report], *, ranks: bool) -> None:
    """Train the trials with the values `asked`; report at every rung, from the last one reached.

    With `ranks` they are judged by rankings, whatever they learn.
    """
    base = parse(tree, "the sweep's experiment")
    settings = base.sweep
    opened = TaskStore.open(store, cache=access.cache(os.environ, store))
    first = override(base, {**asked[0], "train.steps": settings.steps})
    group = Group(settings, judged(first, opened, ranks=ranks), asked, opened)
    begun = tune.get_checkpoint()
    if begun is not None:
        with begun.as_directory() as folder:
            group.restore(Path(folder))
    while group.on_their_way:
        report = group.climb()
        with tempfile.TemporaryDirectory() as folder:
            group.save(Path(folder))
            tune.report(packed(report), checkpoint=tune.Checkpoint.from_directory(folder))


def packed(report: Report) -> Report:
    """Return a report as Tune's loggers take it: what trials have reached is one text."""
    return report | {TRIALS: json.dumps(report[TRIALS])}


def trials_of(metrics: Report | None) -> list[Report]:
    """Return what the trials of a group have reached by what Tune keeps; [] before any rung."""
    return json.loads((metrics or {}).get(TRIALS, "[]"))


def _each(experiment: Experiment, asked: Sequence[Report]) -> list[Experiment]:
    return [override(experiment, values) for values in asked]


def _place(folder: Path, number: int, fit: int) -> Path:
    return folder / f"trial-{number}" / f"fit-{fit}"
