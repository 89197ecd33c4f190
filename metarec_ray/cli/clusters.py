"""`metarec cluster` and `metarec doctor`."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metarec_ray.cli.arguments import Json, show

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
