"""Lines of progress, and `metrics.jsonl`, which keeps them.

Does not know what is trained, or who reads the file.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from metarec_ray.atomic import append_line, replace_text

NAME = "metrics.jsonl"
_NUMBERS = ("step", "steps", "query_loss")


class Progress(NamedTuple):
    """One line of progress: means since the last line."""

    step: int
    steps: int
    loss: float
    metric_name: str
    metric: float
    tasks_per_s: float
    outer_lr: float


def append(path: Path, progress: Progress) -> None:
    """Add one line."""
    append_line(path, json.dumps(as_line(progress)))


def as_line(progress: Progress) -> dict:
    """Return a line of progress as it is written."""
    return {
        "step": progress.step,
        "steps": progress.steps,
        "query_loss": progress.loss,
        progress.metric_name: progress.metric,
        "tasks_per_s": round(progress.tasks_per_s, 1),
        "outer_lr": progress.outer_lr,
    }


def forget_after(path: Path, step: int) -> None:
    """Drop lines after `step`, whose steps a resumed run takes again, and incomplete lines."""
    if path.exists():
        kept = [json.dumps(line) + "\n" for line in read(path) if line["step"] <= step]
        replace_text(path, "".join(kept))


def read(path: Path) -> Iterator[dict]:
    """Yield the lines of progress in the file, oldest first, without incomplete ones."""
    if not path.exists():
        return
    for line in path.read_text("utf-8", errors="replace").splitlines(keepends=True):
        if line.endswith("}\n"):
            with suppress(json.JSONDecodeError):
                found = json.loads(line)
                if all(isinstance(found.get(name), int | float) for name in _NUMBERS):
                    yield found


def render(line: dict) -> str:
    """Return a line of metrics as people read it.

    >>> place = {"step": 20, "steps": 50, "outer_lr": 0.1, "tasks_per_s": 900.0}
    >>> render(place | {"query_loss": 5.1, "query_ndcg@10": 0.2})
    'step 20/50  loss 5.1000  query_ndcg@10 0.2000  900 tasks/s'
    """
    metric = next(name for name in line if name.startswith("query_") and name != "query_loss")
    return (
        f"step {line['step']}/{line['steps']}  loss {line['query_loss']:.4f}  "
        f"{metric} {line[metric]:.4f}  {line['tasks_per_s']:,.0f} tasks/s"
    )
