"""The files of a run's folder, read and checked: each is optional, at least one must exist.

Knows files and their fields; does not know how they are shown. Unknown fields are ignored, so that
an older report can show a newer run.
"""

import json
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from metarec_ray.data.store import manifest
from metarec_ray.errors import DataError
from metarec_ray.training.run_folder import metrics_log

SUMMARY, SWEEP, EVALUATION = "summary.json", "sweep.json", "evaluation.json"
STORE = f"store/{manifest.MANIFEST}"
INPUTS = (SUMMARY, metrics_log.NAME, SWEEP, EVALUATION, STORE)
_OF_THE_STORE = {"tasks", "events", "items", "parts", "cutoff", "notes"}
T = TypeVar("T", bound=BaseModel)


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Row(_Read):
    """One method at one k; fields that only the full table shows are in `raw` of the run."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    protocol: str = ""
    dataset: str = ""
    seed: int = 0
    method: str
    kind: Literal["floor", "rival", "learner", "optimum"]
    k: int
    n: int
    ndcg: float = Field(alias="ndcg@10")
    ci95: tuple[float, float]
    p_corrected: float | None = None
    best_rival: str | None = None
    n_for_5_percent: int | None = None
    better: bool = False
    chance: bool = False


class Counts(_Read):
    """Counts of the log's rows by what happened to them, and of the store.

    `notes` are sentences on what is doubtful of the log.
    """

    rows_in: int
    kept: int
    filtered: int
    collapsed: int
    quarantined: dict[str, int] = {}
    tasks: int
    events: int
    items: int
    parts: dict[str, int]
    cutoff: int | None = None
    notes: tuple[str, ...] = ()


class Sweep(_Read):
    """A search over dotted keys; the metric of a failed trial is absent or null."""

    metric: str
    mode: Literal["max", "min"]
    trials: list[dict[str, JsonValue]]


class Item(_Read):
    """An item of a list."""

    id: str
    title: str | None = None
    score: float | None = None


class Step(_Read):
    """One answer of the endpoint: after `clicked`; the first one before any click."""

    clicked: Item | None = None
    items: list[Item]
    took_ms: float | None = None


class Example(_Read):
    """One held-out user: the answers after each click, and the user's later choices."""

    user: str
    fields: dict[str, JsonValue] = {}
    steps: list[Step]
    liked_later: list[Item] = []


class Summary(_Read):
    """The summary that a run writes."""

    dataset: str = ""
    feedback: str = ""
    learner: str | None = None
    seed: int | None = None
    data: Counts | None = None
    rows: list[dict[str, JsonValue]] = []
    optimum: dict[int, float] | None = None
    regret: dict[int, float] | None = None
    stages: dict[str, float] = {}
    sweep: Sweep | None = None
    example: Example | None = None
    checkpoint: str | None = None
    parameters_sha256: str | None = None
    commands: list[str] = []
    versions: dict[str, str] = {}
    seconds: float | None = None
    created_at: str | None = None


class _Evaluation(_Read):
    rows: list[dict[str, JsonValue]]


class Run(_Read):
    """Everything that a report shows.

    Attributes:
        name: of the folder.
        rows: rows that have a k and an NDCG@10, in the table's order.
        raw: every row of the table as it was written.
        metrics: lines of the training log, oldest first.

    """

    name: str
    summary: Summary
    data: Counts | None
    rows: list[Row]
    raw: list[dict[str, JsonValue]]
    metrics: list[dict[str, JsonValue]]
    sweep: Sweep | None


def read_run(folder: Path) -> Run:
    """Return the run of a folder; DataError if it has nothing to report, or a broken file."""
    if not any((folder / name).is_file() for name in INPUTS):
        raise DataError(f"a report needs one of {', '.join(INPUTS)}, {folder} holds none")
    summary = _read(folder / SUMMARY, Summary) or Summary()
    evaluation = _read(folder / EVALUATION, _Evaluation)
    raw = summary.rows or (evaluation.rows if evaluation else [])
    return Run(
        name=folder.resolve().name,
        summary=summary,
        data=summary.data or _counts(folder / STORE),
        rows=_rows(raw, folder),
        raw=raw,
        metrics=_metrics(_training(folder)),
        sweep=summary.sweep or _read(folder / SWEEP, Sweep),
    )


def _read(path: Path, kind: type[T]) -> T | None:
    if not path.is_file():
        return None
    return _parse(_json(path), kind, path)


def _parse(tree: JsonValue, kind: type[T], place: Path) -> T:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise DataError(
            f"{where} of a run's file is wrong: {first['msg']}, "
            f"got {first['input']!r:.80} ({place})"
        ) from error


def _json(path: Path) -> JsonValue:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"a run's file must hold JSON, got {error} ({path})") from error


def _rows(raw: list[dict[str, JsonValue]], folder: Path) -> list[Row]:
    judged = [row for row in raw if row.get("k") is not None and row.get("ndcg@10") is not None]
    return [_parse(row, Row, folder) for row in judged]


def _counts(path: Path) -> Counts | None:
    if not path.is_file():
        return None
    found = _parse(_json(path), manifest.Manifest, path)
    return Counts(**found.counts.model_dump(), **found.model_dump(include=_OF_THE_STORE))


def _training(folder: Path) -> Path:
    """Return the metrics of the run's training; of several fits those of its first whole one."""
    own = folder / metrics_log.NAME
    if own.is_file():
        return own
    wholes = (*folder.glob("members/first"), *sorted(folder.glob("members/*-final")))
    found = (whole / metrics_log.NAME for whole in wholes)
    return next((path for path in found if path.is_file()), own)


def _metrics(path: Path) -> list[dict[str, JsonValue]]:
    try:
        return list(metrics_log.read(path))
    except ValueError as error:
        raise DataError(
            f"each line of {metrics_log.NAME} must be JSON, got {error} ({path})"
        ) from error
