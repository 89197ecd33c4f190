"""`metarec bench`: learners x seeds under a protocol, one Ray task per cell, and their table.

Knows which cells a bench has and which are done; `evaluation` knows how a cell is computed and what
its numbers mean. A cell that is on disk is not computed again.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from metarec_ray.atomic import replace, replace_text
from metarec_ray.config.experiment import Experiment, load, override, require_log
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.bench_cells import State, compute
from metarec_ray.engine.bench_tracked import tracked_bench
from metarec_ray.engine.cluster.writing import writing
from metarec_ray.engine.prepare.ensure import ensure_store
from metarec_ray.engine.tracking.mlflow_client import require_installed
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.bench.cells import Cell, make_cell, read_cell
from metarec_ray.evaluation.bench.lineup import chosen, lineup
from metarec_ray.evaluation.bench.protocols import PROTOCOLS, RATINGS, Opened, open_protocol
from metarec_ray.evaluation.protocols import partition_files
from metarec_ray.evaluation.protocols.strict import positive_threshold
from metarec_ray.evaluation.table.groups import groups_of
from metarec_ray.evaluation.table.ranking_measures import Measured
from metarec_ray.evaluation.table.rows import Header, Row, judge
from metarec_ray.evaluation.table.text import render
from metarec_ray.figures import svg
from metarec_ray.report.bench import write_bench

CELLS, RESULTS = "cells", "results"
_PROVENANCE = ("config_sha256", "overrides", "store_sha256", "source_fingerprint", "over_budget")


class Asked(NamedTuple):
    """The options of a bench.

    Attributes:
        config: the experiment's file.
        overrides: `key=value`, as `--set` takes them.
        protocol: one of `PROTOCOLS`.
        learners: names of the lineup; None for all that suit.
        seeds: of learners that are not closed forms; None for `bench.seeds`.
        out: where results go; None for `bench/PROTOCOL` in the run's folder.
        alone: leave out floors and rivals that were not named.

    """

    config: Path
    overrides: Sequence[str]
    protocol: str
    learners: Sequence[str] | None = None
    seeds: int | None = None
    out: Path | None = None
    alone: bool = False

    def command(self, learner: str) -> str:
        """Return the command line that computes the cells of one method again."""
        words = ["metarec", "bench", str(self.config), "--protocol", self.protocol]
        words += ["--learners", learner]
        words += [] if self.seeds is None else ["--seeds", str(self.seeds)]
        return shlex.join(words + [word for text in self.overrides for word in ("--set", text)])


class BenchResult(NamedTuple):
    """Rows for machines, the table as text, the folder, and failed cell -> reason."""

    rows: list[Row]
    text: str
    out: Path
    failed: dict[str, str]


def bench(asked: Asked, *, data_dir: Path | None, watch: Callable[[State], None]) -> BenchResult:
    """Compute every cell that is not on disk and write the table of all of them.

    A cell that fails is named in the result; the others go on and make the table.

    Raises:
        ConfigError: an unknown protocol or learner, or one that this log does not suit; another
            process writes the folder.
        DataError: too few entities, or a split that leaks.
        MachineError: matplotlib, which draws the page, is not installed.

    """
    if asked.protocol not in PROTOCOLS:
        raise ConfigError(
            f"--protocol must be one of {', '.join(PROTOCOLS)}, got {asked.protocol!r}"
        )
    svg.require()  # before hours of work whose charts could not be drawn
    seeds = [] if asked.seeds is None else [f"bench.seeds={asked.seeds}"]
    experiment = load(asked.config, [*asked.overrides, *seeds])
    require_installed(experiment.bench.mlflow, "bench.mlflow")
    if experiment.run.store is None:
        require_log(experiment, asked.config)
    out = asked.out or experiment.directory / "bench" / asked.protocol
    base = experiment.run.seed

    def say(line: str) -> None:
        watch(State(0, 0, 0, [], None, line))  # of no cell

    with writing(experiment, say, out=asked.out):
        stores = _Stores(experiment, asked.protocol, data_dir, say)
        store = stores.at(base)
        opened = open_protocol(asked.protocol, experiment, store, seed=base, data_dir=data_dir)
        cells = _cells(asked, experiment, stores, out, data_dir)
        with tracked_bench(experiment, store.manifest, cells, out, say) as failed:
            failed |= compute(cells, watch)
            return _results(asked, experiment, store, opened, cells, out, failed)


class _Stores:
    """The store of every seed: the same, unless the seed picks the shuffle of a partition."""

    def __init__(
        self,
        experiment: Experiment,
        protocol: str,
        data_dir: Path | None,
        say: Callable[[str], None],
    ):
        self.experiment, self.data_dir, self.say = experiment, data_dir, say
        self.by_seed = protocol in RATINGS and partition_files.by_partition(experiment.data)
        self.opened: dict[int, TaskStore] = {}

    def at(self, seed: int) -> TaskStore:
        """Return the store of a seed, prepared."""
        place = seed if self.by_seed else self.experiment.run.seed
        if place not in self.opened:
            self.opened[place] = ensure_store(
                self._of(place), data_dir=self.data_dir, progress=self.say
            )
        return self.opened[place]

    def _of(self, seed: int) -> Experiment:
        if seed == self.experiment.run.seed:
            return self.experiment
        data = partition_files.for_seed(self.experiment.data, seed)
        folder = str(self.experiment.directory / f"seed-{seed}")
        run = {"run.dir": folder, "run.store": None, "run.seed": seed}
        return override(self.experiment.model_copy(update={"data": data}), run)


def _cells(
    asked: Asked, experiment: Experiment, stores: _Stores, out: Path, data_dir: Path | None
) -> list[Cell]:
    base = experiment.run.seed
    store = stores.at(base)
    feedback = store.manifest.feedback
    entries = lineup(
        experiment,
        feedback,
        n_items=len(store.items.ids),
        positive_min=positive_threshold(experiment.evaluate, feedback),
        ratings=asked.protocol in RATINGS,
    )
    return [
        make_cell(
            asked.protocol,
            entry,
            experiment,
            stores.at(seed).manifest,
            seed=seed,
            store=stores.at(seed).path.resolve(),
            folder=(out / CELLS).resolve(),
            data_dir=data_dir and data_dir.resolve(),
        )
        for entry in chosen(entries, asked.learners, alone=asked.alone)
        for seed in range(base, base + entry.seeds)
    ]


def _results(
    asked: Asked,
    experiment: Experiment,
    store: TaskStore,
    opened: Opened,
    cells: Sequence[Cell],
    out: Path,
    failed: dict[str, str],
) -> BenchResult:
    measured: list[Measured] = []
    provenance: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        found = read_cell(cell)
        if found is None:
            continue
        measured += found[0]
        for name in dict.fromkeys(one.method for one in found[0]):
            provenance.setdefault(name, []).append(found[1])
    if not measured:
        return BenchResult([], "no cell finished", out, failed)
    dataset = Path(experiment.data.path).name
    header = Header(dataset, store.manifest.feedback, experiment.run.seed, asked.protocol)
    rows = judge(
        measured,
        header,
        resamples=experiment.evaluate.resamples,
        groups=groups_of(store, opened.entities),
    )
    rows = [row | _made(asked, provenance[str(row["method"])]) for row in rows]
    _write(out, rows)
    text = render(rows) + (_chance(rows) if asked.protocol in RATINGS else "")
    return BenchResult(rows, text, out, failed)


def _made(asked: Asked, cells: Sequence[dict[str, Any]]) -> Row:
    """Return the provenance of a method's rows: its first cell, the mean CPU time of its seeds."""
    first = cells[0]
    return {
        "command": asked.command(first["entry"]),
        **{name: first[name] for name in _PROVENANCE},
        "over_budget": any(cell["over_budget"] for cell in cells),
        "cpu_seconds": sum(cell["cpu_seconds"] for cell in cells) / len(cells),
        "tuning_cpu_seconds": first["tuning"]["cpu_seconds"],
        "tried": first["tuning"]["tried"],
        "asked": first["tuning"]["asked"],
    }


def _chance(rows: Sequence[Row]) -> str:
    """Return a line on the methods that rank no better than chance, "" without any."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["chance"]:
            where = str(row.get("scenario", f"k={row.get('k')}"))
            found.setdefault(str(row["method"]), []).append(where)
    named = "; ".join(f"{name} ({', '.join(places)})" for name, places in found.items())
    return f"\nNDCG indistinguishable from chance: {named}" if named else ""


def _write(out: Path, rows: Sequence[Row]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    flat = [
        {
            name: json.dumps(value) if isinstance(value, dict | list) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    frame = pl.DataFrame(flat, infer_schema_length=None)
    replace(out / f"{RESULTS}.parquet", frame.write_parquet)
    replace_text(out / f"{RESULTS}.json", json.dumps({"rows": rows}, indent=1) + "\n")
    write_bench(out, rows)
