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
from metarec_ray.errors import ConfigError

if TYPE_CHECKING:
    from metarec_ray.engine.cluster.job import Job, Target

RETRIES = 3
HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a verb."""


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
    supervise: Annotated[
        bool,
        typer.Option(
            "--supervise", help="Submit it again when its process, a worker or a node is lost."
        ),
    ] = False,
    retries: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"With --supervise: how often in a row without anything new; default {RETRIES}.",
        ),
    ] = None,
    stalled_after: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            min=0.1,
            help="With --supervise: also when the run has not moved for so long.",
        ),
    ] = None,
) -> None:
    """Run the same line as a Ray job: follow its log, return its exit code."""
    line = lines.read(context.find_root().command, [verb, *(words or ())])
    if not supervise and (retries, stalled_after) != (None, None):
        raise ConfigError("--retries and --stalled-after are of a supervisor: add --supervise")
    from metarec_ray.engine.cluster.job import find_target
    from metarec_ray.engine.jobs.plan import plan

    job, job_id = plan(line), None
    target = None if dry_run else find_target(address, os.environ)
    if supervise:
        stalled_after_s = None if stalled_after is None else stalled_after * 60
        python = target.python if target else "python"
        asked = RETRIES if retries is None else retries
        job, job_id = _supervising(job, python, asked, stalled_after_s)
    if target is None:
        print(f"# {job.line('python')}\n{job.config or ''}".rstrip())
        return
    from metarec_ray.engine.jobs.submit import send

    _read_on(send(job, target, job_id=job_id, on_head=supervise), target)


def _supervising(
    job: "Job", python: str, retries: int, stalled_after_s: float | None
) -> "tuple[Job, str]":
    from metarec_ray.engine.jobs.submit import new_id
    from metarec_ray.engine.jobs.supervise import Policy, supervising

    job_id = new_id(job.verb)
    return supervising(job, python, Policy(retries, stalled_after_s), job_id), job_id


def _read_on(job_id: str, target: "Target") -> NoReturn:
    """Become `metarec jobs logs JOB --follow`, which has not read a configuration: no torch."""
    if sys.argv[1:2] != ["submit"]:  # part of another program
        follow(job_id, target)
    sys.stdout.flush()
    # Ctrl-C while it starts is heard once it can say where the job is.
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    before = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv[1:])]
    words = ["jobs", "logs", job_id, "--follow", "--address", target.address]
    os.execv(sys.executable, [*before, *words])


def follow(job_id: str, target: "Target") -> NoReturn:
    """Show the log of a job as it grows, and exit with the job's code, or with 130 for Ctrl-C."""
    from metarec_ray.engine.jobs.submit import follow as run

    where = f"{job_id} --address {target.address}"
    try:
        with _heard_twice() as check:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)

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
