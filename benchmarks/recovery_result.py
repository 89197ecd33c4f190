"""What bench_recovery.py saw of each run, and its result files.

Knows no cluster.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from statistics import median

from machine import heading, result_path
from recovery_faults import FAULTS

COMMAND = "python benchmarks/bench_recovery.py"


@dataclass
class Seen:
    """What was seen of a run and its fault: times in seconds after the fault, steps."""

    kind: str
    seed: int
    at_step: int = 0
    told_s: float | None = None
    moving_s: float | None = None
    resumed_at: int | None = None
    lost: int | None = None
    typed_again_s: float | None = None
    widths: list[int] = field(default_factory=list)
    equal: bool = False
    said: str = ""


def earlier() -> list[Seen]:
    """Return the runs of today's result file, which are not made again."""
    path = result_path("recovery").with_suffix(".json")
    return [Seen(**one) for one in json.loads(path.read_text("utf-8"))] if path.exists() else []


def write(seen: list[Seen], *, steps: int, every: int) -> None:
    """Write both result files of the runs so far."""
    path, load_now = result_path("recovery"), ", ".join(f"{one:.0f}" for one in os.getloadavg())
    path.with_suffix(".json").write_text(
        json.dumps([asdict(one) for one in seen], indent=1) + "\n", "utf-8"
    )
    rows = [row(kind, [one for one in seen if one.kind == kind]) for kind in FAULTS]
    equal = sum(one.equal for one in seen)
    text = "\n".join(
        [
            f"Two nodes, {steps} steps of 2 workers (or 1, where a node is gone), a checkpoint "
            f"every {every}, a fault at a random step. Load of the machine at the end (1, 5 and 15 "
            f"minutes): {load_now}, by other work too, so seconds are upper bounds.\n",
            f"The parameters of one process without Ray: {equal} of {len(seen)} runs.\n",
            "| fault | runs | same sha256 | s until told: median, most | s until it moves: median, "
            "most | wanted | steps lost: median, most |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *(one for one in rows if one),
            "\nUntil it moves: the first line of progress after the fault. Of the head that is "
            "gone: after a new one has started and the same command was typed.",
        ]
    )
    title = "Recovery of a training run"
    path.write_text(f"{heading(title, COMMAND)}\n{text}\n", "utf-8")


def row(kind: str, seen: list[Seen]) -> str:
    """Return the row of a kind; "" without a run of it."""
    if not seen:
        return ""
    cells = []
    for name in ("told_s", "moving_s", "lost"):
        values = [value for one in seen if (value := getattr(one, name)) is not None]
        cells.append(f"{median(values):.0f}, {max(values):.0f}" if values else "-")
    told, moving, lost = cells
    equal = sum(one.equal for one in seen)
    most = FAULTS[kind].most_s
    return f"| {kind} | {len(seen)} | {equal} | {told} | {moving} | {most:.0f} | {lost} |"
