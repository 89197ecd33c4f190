"""`metarec submit`: a line of another verb as a Ray job.

Knows the options and how a log is followed; does not know the Jobs API.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from metarec_ray.cli import lines
from metarec_ray.cli.arguments import Address, say
from metarec_ray.cli.process import reader_is_gone

if TYPE_CHECKING:
    from metarec_ray.engine.cluster.job import Target


def submit(
    context: typer.Context,
    verb: Annotated[
        str,
        typer.Argument(metavar="VERB", help=", ".join(lines.VERBS) + ".", show_default=False),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARGUMENTS", help="Of the verb, its options too, as in its own line."
        ),
    ] = None,
    address: Address = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, send nothing.")
    ] = False,
) -> None:
    """Run the same line as a Ray job: follow its log, return its exit code."""
    line = lines.read(context.find_root().command, [verb, *(words or ())])
    from metarec_ray.engine.cluster.job import find_target
    from metarec_ray.engine.jobs.plan import plan

    job = plan(line)
    if dry_run:
        print(f"# {job.line('python')}\n{job.config or ''}".rstrip())
        return
    from metarec_ray.engine.jobs.submit import send

    target = find_target(address, os.environ)
    follow(send(job, target), target)


def follow(job_id: str, target: "Target") -> NoReturn:
    """Show the log of a job as it grows, and exit with the job's code, or with 130 for Ctrl-C."""
    from metarec_ray.engine.jobs.submit import follow as run

    where = f"{job_id} --address {target.address}"
    try:
        with _heard_twice() as check:

            def show(text: str) -> None:
                write(text)
                check()
                if reader_is_gone():
                    raise _Unread

            say(f"job {job_id} at {target.address}")
            code = run(job_id, target, write=show)
    except (KeyboardInterrupt, _Unread) as ended:
        say("the job goes on")
        say(f"see it: metarec jobs logs {where} --follow")
        say(f"end it: metarec jobs stop {where}")
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


def write(text: str) -> None:
    """Write a piece of a log to stdout at once."""
    sys.stdout.write(text)
    sys.stdout.flush()
