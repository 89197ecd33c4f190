"""`metarec bench`: every learner and every rival of a protocol in one table.

Knows the options and how progress is shown; does not know cells.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metarec_ray.cli.arguments import (
    ConfigFile,
    Json,
    Overrides,
    data_folder,
    listed,
    local_path,
    say,
    show,
)
from metarec_ray.errors import RunFailed

if TYPE_CHECKING:
    from metarec_ray.engine.bench_cells import State


def bench(
    config: ConfigFile,
    protocol: Annotated[
        str, typer.Option(help="strict, melu, item_kshot, cross_domain or leave_last_out.")
    ] = "strict",
    learners: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Names of the lineup, and of bench.learners; default: all that suit.",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Fits of a learner that is not a closed form.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=local_path, help="Default: bench/PROTOCOL in the run's folder."
        ),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Leave out floors and rivals that were not named.")
    ] = False,
    sets: Overrides = None,
    as_json: Json = False,
) -> None:
    """Fit and judge learners beside tuned rivals, a Ray task a seed; the same command resumes."""
    from metarec_ray.engine.bench import Asked
    from metarec_ray.engine.bench import bench as run

    names = None if learners is None else [name.strip() for name in learners.split(",")]
    asked = Asked(config, listed(sets), protocol, names, seeds, out, alone)
    with _Shown() as shown:
        result = run(asked, data_dir=data_folder(), watch=shown.watch)
    if result.rows:
        say(f"bench: {result.out / 'index.html'}")
        show({"rows": result.rows}, as_json, result.text)
    _refuse_failed(result.failed)


def _refuse_failed(failed: Mapping[str, str]) -> None:
    if failed:
        reasons = "; ".join(f"{cell}: {reason}" for cell, reason in failed.items())
        raise RunFailed(f"every cell of a bench must finish, {len(failed)} failed: {reasons}")


class _Shown:
    """Progress on stderr: a bar on a terminal, else one line per event."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.bar = Progress(
            TextColumn("bench"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task("bench", total=None, note="")

    def __enter__(self) -> "_Shown":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def watch(self, state: "State") -> None:
        """Show a state and its event."""
        left = (
            "" if state.seconds_left is None else f", about {state.seconds_left / 60:.0f} min left"
        )
        note = f"{len(state.running)} running{left}" + (
            f", {state.failed} failed" * bool(state.failed)
        )
        if self.bar.disable:
            counts = f"{state.done}/{state.total} cells, {note}" if state.total else ""
            say("  ".join(part for part in ("bench:", counts, state.event) if part))
            return
        self.bar.update(
            self.task,
            total=state.total or None,
            completed=state.done + state.failed,
            note=f"{note}  {', '.join(state.running[:2])}",
        )
        self.bar.console.print(state.event, highlight=False, markup=False)
