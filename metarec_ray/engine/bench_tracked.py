"""What is told of a bench: a run for each cell, one method and one seed, with the table's measures.

Knows cells on disk; does not know who is told (`engine.tracking`).
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
from metarec_ray.engine.tracking.tracking import Asked, tracked
from metarec_ray.evaluation.bench.cells import Cell, read_cell
from metarec_ray.evaluation.table.ranking_measures import Measured, weight_of
from metarec_ray.evaluation.table.statistics import Sample

SQUARES = "squared_error"


@contextmanager
def tracked_bench(
    experiment: Experiment,
    manifest: Manifest,
    cells: Sequence[Cell],
    out: Path,
    say: Callable[[str], None],
) -> Iterator[dict[str, str]]:
    """Track the cells of a bench in `out` for a `with` block; give what takes those that fail."""
    runs, to = BenchRuns(experiment, manifest, cells), experiment.bench
    with tracked(runs, Asked("bench", out, to.mlflow, to.tensorboard), say):
        yield runs.failed


class BenchRuns:
    """A bench as a run, and its cells as runs of it.

    Attributes:
        status: of the bench.
        failed: cell -> why, of those that failed.

    """

    def __init__(
        self,
        experiment: Experiment,
        manifest: Manifest,
        cells: Sequence[Cell],
        *,
        words: Sequence[str] = sys.argv,
    ):
        protocol, self.cells = cells[0].protocol, cells
        self.name = f"bench {protocol}"
        self.params = {"protocol": protocol, **params_of(experiment)}
        self.tags = provenance(manifest, words)
        self.failed: dict[str, str] = {}
        self.done: dict[str, Tracked] = {}
        self.status = "running"

    status: Status

    def known(self) -> list[Tracked]:
        """Return the bench, and the cells that are on disk or have failed."""
        status = "failed" if self.status == "finished" and self.failed else self.status
        own = Tracked("", self.name, self.params, self.tags, [], status)
        return [own, *filter(None, map(self._cell, self.cells))]

    def _cell(self, cell: Cell) -> Tracked | None:
        if cell.name in self.done:
            return self.done[cell.name]
        name = f"{cell.entry.name} seed {cell.seed}"
        found = read_cell(cell)
        if found is None:
            if name not in self.failed:
                return None
            tags = {FAILED_BY: unsecret(self.failed[name])}
            return Tracked(cell.name, name, self._params(cell), tags, [], "failed")
        measured, facts = found
        points = [point(one, several=len({m.method for m in measured}) > 1) for one in measured]
        costs = finite({key: facts[key] for key in ("cpu_seconds", "wall_seconds")})
        params = self._params(cell) | flat(facts["overrides"])
        self.done[cell.name] = Tracked(
            cell.name,
            name,
            params,
            {"metarec.config_sha256": facts["config_sha256"]},
            [*points, Point(0, costs)],
            "finished",
        )
        return self.done[cell.name]

    def _params(self, cell: Cell) -> dict[str, str]:
        return {"method": cell.entry.name, "kind": cell.entry.kind, "seed": str(cell.seed)}


def point(one: Measured, *, several: bool = False) -> Point:
    """Return the means of a method under one condition, as its table has them, at step k.

    Those of a scenario have its name in front, and that of the method where a cell has several.
    """
    values = {metric: _mean(one, metric) for metric in one.values}
    if SQUARES in values:
        values["rmse"] = math.sqrt(values[SQUARES])
    before = [one.method] if several else []
    before += [one.condition.scenario] if one.condition.scenario else []
    named = {"/".join([*before, key]): value for key, value in (one.facts | values).items()}
    return Point(one.condition.k or 0, finite(named))


def _mean(one: Measured, metric: str) -> float:
    weight = weight_of(metric, one.weight)
    return Sample(one.values[metric][None], weight[None], (one.seed,)).mean()
