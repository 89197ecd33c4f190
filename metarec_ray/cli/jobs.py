"""`metarec jobs`: what runs on a cluster, its logs, and how it is stopped.

Knows options and how a job is shown; does not know the Jobs API.
"""

import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metarec_ray.cli.arguments import Address, Json, say, show
from metarec_ray.cli.submitting import follow, write

if TYPE_CHECKING:
    from metarec_ray.engine.jobs.client import Jobs
    from metarec_ray.engine.jobs.listing import Entry

app = typer.Typer(
    invoke_without_command=True, help="Jobs of a cluster: list them, read their logs, stop them."
)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.", show_default=False)]


@app.callback()
def _list_by_default(
    context: typer.Context, address: Address = None, as_json: Json = False
) -> None:
    """Jobs of a cluster: list them, read their logs, stop them."""
    if context.invoked_subcommand is None:
        _show(address, as_json)


@app.command("list")
def list_(address: Address = None, as_json: Json = False) -> None:
    """List the jobs of a cluster, oldest first: id, verb, state, since when, for how long, run."""
    _show(address, as_json)


@app.command()
def logs(
    job: JobId,
    follow_: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends; return its exit code.")
    ] = False,
    address: Address = None,
) -> None:
    """Print a job's log."""
    from metarec_ray.engine.cluster.job import find_target

    if follow_:
        follow(job, find_target(address, os.environ))
    from metarec_ray.engine.jobs.submit import log_of

    write(log_of(_jobs(address), job))


@app.command()
def stop(job: JobId, address: Address = None, as_json: Json = False) -> None:
    """Stop a job, what it supervises before it; say where it goes on."""
    from metarec_ray.engine.jobs.listing import stop as run

    ended = run(_jobs(address), job)
    text = "\n".join(one.sentence() for one in ended)
    show({"stopped": [one._asdict() for one in ended]}, as_json, text)


@app.command(hidden=True)
def supervise(
    words: Annotated[list[str], typer.Argument(metavar="-- LINE", help="Of the verb.")],
    job_id: Annotated[str, typer.Option("--id", help="Of the job that this process is.")],
    verb: Annotated[str, typer.Option(help="For people.")],
    run: Annotated[str, typer.Option(help="The folder that the job writes.")],
    python: Annotated[str, typer.Option(help="The interpreter of the cluster.")],
    retries: Annotated[int, typer.Option(help="In a row, without anything new.")],
    stalled_after: Annotated[
        float | None, typer.Option(help="Seconds; default: however long it takes.")
    ] = None,
) -> None:
    """Be the supervisor that `metarec submit --supervise` sends."""
    from metarec_ray.engine.cluster.job import CONFIG, Job
    from metarec_ray.engine.jobs import client
    from metarec_ray.engine.jobs.supervise import Policy, Supervisor

    jobs = client.connect(client.own_address(os.environ))
    config = Path(CONFIG).read_text("utf-8") if CONFIG in words else None
    data = {name: os.environ[name] for name in ("METAREC_DATA",) if name in os.environ}
    supervisor = Supervisor(
        jobs,
        Job(verb, words, config, data, run),
        python,
        own_id=job_id,
        policy=Policy(retries, stalled_after),
        say=say,
        write=write,
    )
    raise typer.Exit(supervisor.run())


def _jobs(address: str | None) -> "Jobs":
    from metarec_ray.engine.cluster.job import find_target
    from metarec_ray.engine.jobs.client import connect

    return connect(find_target(address, os.environ).address)


def _show(address: str | None, as_json: bool) -> None:
    from metarec_ray.engine.jobs.listing import entries

    found = entries(_jobs(address))
    if as_json:
        show({"jobs": [one._asdict() for one in found]}, as_json)
    elif not found:
        print("no job yet")
    else:
        Console(soft_wrap=True).print(_table(found))


def _table(found: "list[Entry]") -> Table:
    table = Table("job", "verb", "state", "since", "for", "run", box=None, pad_edge=False)
    for one in found:
        words = (
            one.id,
            one.verb or "-",
            one.state,
            _since(one.started),
            _for(one.seconds),
            one.run,
        )
        table.add_row(*(escape(word or "-") for word in words))
    return table


def _since(started: float | None) -> str:
    if started is None:
        return "-"
    begun = datetime.fromtimestamp(started)
    today = begun.date() == datetime.fromtimestamp(time.time()).date()
    return begun.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def _for(seconds: float | None) -> str:
    """Return a duration as people read it.

    >>> _for(59.4), _for(150), _for(9000)
    ('59 s', '2 min 30 s', '2 h 30 min')
    """
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
