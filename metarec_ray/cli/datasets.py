"""`metarec data`: fetch a known data set, check a log, describe and prune a store."""

from pathlib import Path
from typing import Annotated

import typer

from metarec_ray.cli.arguments import (
    ConfigFile,
    Json,
    Overrides,
    data_folder,
    listed,
    local_path,
    place,
    say,
    show,
)
from metarec_ray.errors import DataError

app = typer.Typer(
    no_args_is_help=True, help="Data sets, logs before anything is made of them, and task stores."
)


@app.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="ml-100k, ml-1m or ml-latest-small.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=local_path,
            help="Where data sets lie; default: METAREC_DATA, else ./data.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Download a data set from its official address, verify it; the same command resumes."""
    from metarec_ray.data.datasets.fetch import fetch as run

    path = run(name, out or data_folder() or Path("data"), progress=say)
    show({"path": path}, as_json, str(path))


@app.command()
def check(config: ConfigFile, sets: Overrides = None, as_json: Json = False) -> None:
    """Print what a log holds and what would become of its rows, before anything is made of it."""
    from metarec_ray.config import data_section
    from metarec_ray.data.inspection.check import check as run
    from metarec_ray.data.log.sources import find

    asked = data_section.load(config, listed(sets))
    found = run(find(asked, data_dir=data_folder()), say=say)
    show(found, as_json)
    if "refused" in found:
        raise DataError(str(found["refused"]))
    # Learners take a second to import: a wrong log is told before.
    from metarec_ray.config.experiment import load

    load(config, listed(sets))


@app.command()
def append(
    config: ConfigFile,
    since: Annotated[
        str | None, typer.Option(help="Add events from this date or time on; default: all.")
    ] = None,
    sets: Overrides = None,
    as_json: Json = False,
) -> None:
    """Add what is new in the log to its store: ids stay, buckets without news are shared."""
    from metarec_ray.config.experiment import load, require_log
    from metarec_ray.data.store.append import instant
    from metarec_ray.engine.cluster.writing import writing_store
    from metarec_ray.engine.prepare.driver import append as run

    experiment = load(config, listed(sets))
    require_log(experiment, config)
    begin = None if since is None else instant(since, experiment.data)
    with writing_store(experiment, say):
        made = run(
            experiment.data, experiment.store, since=begin, data_dir=data_folder(), progress=say
        )
    show({"store": experiment.store_place, "version": made.version, **made.summary()}, as_json)


Store = Annotated[
    str, typer.Argument(metavar="STORE", parser=place, help="Folder or URI of a task store.")
]


@app.command()
def describe(
    store: Store,
    version: Annotated[int | None, typer.Option(help="Not the present version but this.")] = None,
    as_json: Json = False,
) -> None:
    """Print what a task store holds, and the proof that no query precedes its support."""
    from metarec_ray.data.inspection.describe import describe as run
    from metarec_ray.storage.places import at_hand

    show(run(at_hand(store), version), as_json)


@app.command()
def prune(
    store: Store,
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest versions stay.")] = 1,
    as_json: Json = False,
) -> None:
    """Remove old versions of a task store; files that newer ones share stay."""
    from metarec_ray.data.store.manifest import load
    from metarec_ray.data.store.versions import prune as run
    from metarec_ray.data.store.versions import versions
    from metarec_ray.engine.cluster.writing import writing_place
    from metarec_ray.storage.uris import local

    folder = local(store)
    with writing_place(store, say):
        load(folder)
        gone = run(folder, keep=keep)
        kept = versions(folder)
    show({"removed": gone, "kept": kept}, as_json, f"removed {len(gone)}, kept {kept}")
