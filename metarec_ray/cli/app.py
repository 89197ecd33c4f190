"""All verbs, and the place where errors become exit codes.

0: done. 2: the input is wrong, one sentence on stderr. 1: the run failed. 130: Ctrl-C. 143: SIGTERM
or SIGHUP.
"""

import errno
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from metarec_ray import __version__
from metarec_ray.cli import (
    benching,
    clusters,
    crash,
    datasets,
    guessing,
    jobs,
    learning,
    serving,
    submitting,
)
from metarec_ray.cli.process import as_process, is_ending
from metarec_ray.errors import MetarecError, RunFailed

# A disk or its permissions refuse; any other number is our mistake and gets a report.
REFUSALS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}

app = typer.Typer(
    name="metarec",
    help="Recommenders that know a new user, or a new item, after a handful of events.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(learning.quickstart)
app.command()(guessing.init)
app.add_typer(datasets.app, name="data")
app.command()(learning.prepare)
app.command()(learning.train)
app.command()(learning.distil)
app.command()(learning.tune)
app.command()(learning.evaluate)
app.command()(benching.bench)
app.command()(learning.status)
app.command()(learning.report)
app.command()(learning.config)
app.command()(serving.serve)
app.command()(serving.rank)
# What the verb of the job takes is unknown to `submit`, and handed to that verb.
app.command(context_settings={"ignore_unknown_options": True})(submitting.submit)
app.add_typer(jobs.app, name="jobs")
app.add_typer(clusters.app, name="cluster")
app.command()(clusters.doctor)


@as_process
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (None: this process's) and return its exit code."""
    # Ray reads the first one only when it is imported; no verb has imported it yet.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    with crash.own_warnings():
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also a PanicException of polars, which is no Exception
            if is_ending():  # by a signal: what breaks on the way out is nobody's mistake
                raise
            return crash.tell(error, sys.argv[1:] if arguments is None else arguments)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        app(args=arguments, prog_name="metarec")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except MetarecError as error:
        print(f"metarec: {_sentence(error)}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(f"metarec: {_sentence(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        refusal = getattr(error, "cause", error)
        if refusal.errno not in REFUSALS:
            raise
        print(f"metarec: files of a run must be writable, got {refusal}", file=sys.stderr)
        return 2
    return 0


def _sentence(error: Exception) -> str:
    """Return the message alone: Ray adds the worker's traceback to an exception."""
    return " ".join(str(getattr(error, "cause", error)).split())


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Recommenders that know a new user, or a new item, after a handful of events."""
