"""A cell of a bench on disk: one method, one seed, its measurements and their provenance.

Knows the two files of a cell: `NAME-sSEED-KEY.parquet` (one row per entity and condition, one
column per metric) and `.json` (facts and provenance), which is written last. The key is a hash of
everything that the numbers depend on, so a cell that is on disk need not be computed again. Does
not know how a cell is computed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch

from metarec_ray.atomic import replace, replace_text
from metarec_ray.checkpoint import parameters_sha256
from metarec_ray.config.experiment import Experiment, override
from metarec_ray.config.running import Keep
from metarec_ray.data.files.hashes import sha256_file, sha256_json
from metarec_ray.data.log import selection
from metarec_ray.data.protocol_settings import LeaveLastOut
from metarec_ray.data.store.manifest import Manifest
from metarec_ray.evaluation.bench.lineup import Entry
from metarec_ray.evaluation.table.ranking_measures import Condition, Measured
from metarec_ray.models.encoders.token_sum import TokenSum
from metarec_ray.training import artifact, warm_start

SCHEMA = 2
"""Of the files and of the metrics in them; a change makes every cell anew."""
_NEWER = {
    ("model", "encoder"): TokenSum().model_dump(mode="json"),
    ("train", "loss"): None,
    ("train", "without"): None,
    ("train", "keep"): Keep().model_dump(mode="json"),
    ("train", "teacher"): None,
    ("train", "teacher_weight"): 1.0,
    ("train", "teacher_temperature"): 1.0,
    ("train", "augmentation"): None,
    ("evaluate", "leave_last_out"): LeaveLastOut().model_dump(mode="json"),
    ("evaluate", "validation_entities"): 2000,
}
"""Keys that came after SCHEMA: with their defaults, cells are those of before."""
_TOLD = ("mlflow", "tensorboard")
"""Keys of `train` that say where a run is tracked, of which no number depends."""
_SECTIONS = ("model", "algorithm", "train", "evaluate", "blend", "second_stage", "bench")
"""A section that is none is left out: cells are those of before there was one."""
_KEYS = ("k", "scenario", "entity", "weight")  # columns that are not metrics


class Cell(NamedTuple):
    """What a cell computes, as plain values that can be sent to other processes.

    Attributes:
        protocol: name of it.
        entry: the method.
        experiment: the resolved experiment of the bench, without the changes of the entry.
        seed: of the fit.
        store: folder of the task store.
        folder: where the files go.
        data_dir: where data sets are looked up; None for the default.
        key: hash of everything that the numbers depend on.
        tuning_key: hash of everything that the choice from the grid depends on.

    """

    protocol: str
    entry: Entry
    experiment: dict[str, Any]
    seed: int
    store: Path
    folder: Path
    data_dir: Path | None
    key: str
    tuning_key: str

    @property
    def name(self) -> str:
        """Name of its files, without suffix."""
        return f"{self.entry.name}-s{self.seed}-{self.key[:12]}"


def make_cell(
    protocol: str,
    entry: Entry,
    experiment: Experiment,
    manifest: Manifest,
    *,
    seed: int,
    store: Path,
    folder: Path,
    data_dir: Path | None,
) -> Cell:
    """Return a cell with its keys; ties are broken by the experiment's own seed in all of them.

    Raises:
        CheckpointError: `train.init_from` or `train.teacher` is no checkpoint.
        DataError: a file that the settings name is missing.

    """
    tuning = _tuning(entry, experiment, manifest, data_dir)
    return Cell(
        protocol=protocol,
        entry=entry,
        experiment=experiment.model_dump(mode="json"),
        seed=seed,
        store=store,
        folder=folder,
        data_dir=data_dir,
        key=sha256_json([tuning, protocol, seed]),
        tuning_key=sha256_json(tuning),
    )


def _tuning(
    entry: Entry, experiment: Experiment, manifest: Manifest, data_dir: Path | None
) -> dict[str, Any]:
    """Return everything that the choice of hyper-parameters from the grid depends on."""
    tree = experiment.model_dump(mode="json")
    for (section, key), default in _NEWER.items():
        if tree[section][key] == default:
            del tree[section][key]
    for key in _TOLD:
        del tree["train"][key]
    names = [name for name in _SECTIONS if tree[name] is not None]
    # Other learners of the same file, and how many seeds they have, do not change this one.
    bench = {"cpu_minutes": tree["bench"]["cpu_minutes"]}
    return {
        "schema": SCHEMA,
        "sections": {name: tree[name] for name in names} | {"bench": bench},
        "entry": {"name": entry.name, "kind": entry.kind, "overrides": entry.overrides},
        "grid": list(entry.grid),
        "seed": experiment.run.seed,
        "store": [manifest.feedback, manifest.store_sha256],
        "files": _named_files(override(experiment, entry.overrides), data_dir),
    }


def _named_files(experiment: Experiment, data_dir: Path | None) -> dict[str, list[str]]:
    """Return the hashes of files outside the store that the settings name."""
    found: dict[str, list[str]] = {}
    for key in artifact.GIVEN:
        path = getattr(experiment.train, key)
        if path is not None:
            _, source = warm_start.find(path, key=f"train.{key}")
            found[key] = [parameters_sha256(source.model)]
    rows = experiment.evaluate.item_kshot.rows
    if rows is not None:
        asked = experiment.data.model_copy(update={"only": rows, "without": None})
        sides = selection.locate(asked, data_dir)
        found["rows"] = [sha256_file(side) for side in sides if side is not None]
    return found


def write_cell(cell: Cell, measured: Sequence[Measured], facts: dict[str, Any]) -> None:
    """Write both files of a cell; `facts` is its provenance, plain JSON."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    table = pl.concat([_frame(one) for one in measured], how="diagonal")
    replace(cell.folder / f"{cell.name}.parquet", table.write_parquet)
    conditions = [
        {"method": one.method, "kind": one.kind, **one.condition._asdict(), "facts": one.facts}
        for one in measured
    ]
    tree = {"schema": SCHEMA, "key": cell.key, "seed": cell.seed, "conditions": conditions, **facts}
    replace_text(cell.folder / f"{cell.name}.json", json.dumps(tree, indent=1) + "\n")


def read_cell(cell: Cell) -> tuple[list[Measured], dict[str, Any]] | None:
    """Return the measurements and their provenance; None if the cell is not finished."""
    path = cell.folder / f"{cell.name}.json"
    values = path.with_suffix(".parquet")
    if not path.is_file() or not values.is_file():
        return None
    tree = json.loads(path.read_text("utf-8"))
    if tree.get("key") != cell.key:
        return None
    table = pl.read_parquet(values)
    measured = [_measured(table, condition, tree["seed"]) for condition in tree["conditions"]]
    return measured, tree


def _frame(one: Measured) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "method": [one.method] * len(one.entity),
            "k": pl.Series([one.condition.k] * len(one.entity), dtype=pl.Int64),
            "scenario": pl.Series([one.condition.scenario] * len(one.entity), dtype=pl.String),
            "entity": one.entity,
            "weight": one.weight.numpy(),
            **{name: values.numpy() for name, values in one.values.items()},
        }
    )


def _measured(table: pl.DataFrame, condition: dict[str, Any], seed: int) -> Measured:
    of = table.filter(
        (pl.col("method") == condition["method"])
        & pl.col("k").eq_missing(condition["k"])
        & pl.col("scenario").eq_missing(condition["scenario"])
    )
    metrics = [name for name in of.columns if name not in ("method", *_KEYS)]
    return Measured(
        method=condition["method"],
        kind=condition["kind"],
        seed=seed,
        condition=Condition(condition["k"], condition["scenario"]),
        entity=of["entity"].to_list(),
        weight=torch.from_numpy(of["weight"].to_numpy().copy()),
        values={
            name: torch.from_numpy(of[name].to_numpy().copy())
            for name in metrics
            if of[name].null_count() < len(of)
        },
        facts=condition["facts"],
    )
