"""`metarec cluster`, `metarec submit` and `metarec doctor`."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metarec_ray.cli.arguments import Address, Json, Overrides, listed, local_path, say, show
from metarec_ray.cli.process import reader_is_gone

if TYPE_CHECKING:
    from metarec_ray.engine.cluster.job import Job, Target

app = typer.Typer(no_args_is_help=True, help="A local, token-secured Ray cluster.")

COLOURS = {"ok": "green", "warn": "yellow", "bad": "red"}


@app.command()
def up(
    num_cpus: Annotated[int, typer.Option(min=1, help="Logical CPUs of the cluster.")] = 4,
    object_store_mb: Annotated[int, typer.Option(min=80, help="Size of the object store.")] = 500,
    as_json: Json = False,
) -> None:
    """Start a cluster on this machine; it ends with `metarec cluster down`."""
    from metarec_ray.engine.cluster import local_cluster

    found = local_cluster.up(num_cpus, os.environ, object_store_bytes=object_store_mb * 10**6)
    following = "metarec submit train CONFIG"
    show(found.model_dump(mode="json"), as_json, f"{found.address}\nnext: {following}")


@app.command()
def down(as_json: Json = False) -> None:
    """End the cluster of `metarec cluster up`, its jobs included, and nothing else."""
    from metarec_ray.engine.cluster import local_cluster

    ended = local_cluster.down(os.environ)
    text = f"ended the cluster at {ended.address}" if ended else "no local cluster was up"
    show({"ended": ended.address if ended else None}, as_json, text)


def submit(
    verb: Annotated[
        str,
        typer.Argument(
            metavar="VERB",
            help="prepare, train, tune, evaluate; or follow, stop.",
            show_default=False,
        ),
    ],
    subject: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG|JOB", help="What the verb takes; for follow and stop, a job's id."
        ),
    ],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTIONS]", help="Options of the verb, after --."),
    ] = None,
    address: Address = None,
    sets: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, send nothing.")
    ] = False,
) -> None:
    """Run the same line as a Ray job: follow its log, return its exit code."""
    from metarec_ray.engine.cluster.job import find_target, plan

    if verb in ("follow", "stop"):
        if dry_run:
            raise typer.BadParameter(
                f"{verb} sends nothing that could be shown", param_hint="--dry-run"
            )
        (_follow if verb == "follow" else _stop)(subject, find_target(address, os.environ))
        return
    job = plan(verb, local_path(subject), listed(sets), listed(options))
    if dry_run:
        print(f"# {job.line('python')}\n{job.config or ''}".rstrip())
    else:
        _send(job, find_target(address, os.environ))


def doctor(as_json: Json = False) -> None:
    """Check this machine: Python, Ray, ports, memory, disk, token, GPU; say how to mend it."""
    from metarec_ray.engine.cluster.doctor import examine, usable

    findings = examine(os.environ, Path.cwd())
    rows = [finding._asdict() for finding in findings]
    if as_json:
        show({"usable": usable(findings), "findings": rows}, as_json)
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        for row in rows:
            colour = COLOURS[row["level"]]
            text = row["found"] + (f"\n-> {row['mend']}" if row["mend"] else "")
            table.add_row(f"[{colour}]{row['level']}[/]", row["subject"], escape(text))
        Console().print(table)
    raise typer.Exit(0 if usable(findings) else 2)


def _send(job: "Job", target: "Target") -> None:
    from metarec_ray.engine.cluster.submit import send

    _follow(send(job, target), target)


def _stop(job_id: str, target: "Target") -> None:
    from metarec_ray.engine.cluster.submit import stop

    stopped = stop(job_id, target)
    print(f"{job_id} {'is asked to stop' if stopped else 'had ended already'}")


def _follow(job_id: str, target: "Target") -> None:
    from metarec_ray.engine.cluster.submit import follow

    where = f"{job_id} --address {target.address}"
    try:
        with _heard_twice() as check:

            def write(text: str) -> None:
                _write(text)
                check()
                if reader_is_gone():
                    raise _Unread

            say(f"job {job_id} at {target.address}")
            code = follow(job_id, target, write=write)
    except (KeyboardInterrupt, _Unread) as ended:
        say("the job goes on")
        say(f"see it: metarec submit follow {where}")
        say(f"end it: metarec submit stop {where}")
        code = 0 if isinstance(ended, _Unread) else 130
    raise typer.Exit(code)


class _Unread(BaseException):
    """Nobody reads the log any more, as after `| head`: that is no failure of the job."""


@contextmanager
def _heard_twice() -> Iterator[Callable[[], None]]:
    """Yield a check that raises KeyboardInterrupt if Ctrl-C was pressed and its exception lost.

    Python drops an exception of a finalizer; and asyncio's handler of Ctrl-C cancels a task, which
    may end in another way.
    """
    pressed = []

    def interrupt(*_: object) -> None:
        pressed.append(True)
        raise KeyboardInterrupt

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
