"""`metarec serve` and `metarec rank`: an endpoint, and a question put to one."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from metarec_ray.cli.arguments import Json, Overrides, listed, place, say, show


def serve(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|RUN", parser=place, help="What to serve.", show_default=False
        ),
    ],
    port: Annotated[
        int | None, typer.Option(help="Port of the endpoint; default: serve.port.")
    ] = None,
    sets: Overrides = None,
) -> None:
    """Serve a checkpoint, or a run's newest, until Ctrl-C.

    METAREC_API_KEY is the key, else one is made and kept.
    """
    from metarec_ray import checkpoint as checkpoints
    from metarec_ray.config.experiment import load
    from metarec_ray.engine.cluster import ports
    from metarec_ray.service.auth import find_or_make_key
    from metarec_ray.service.settings import choose_run_dir, serve_environment
    from metarec_ray.storage.places import at_hand

    path, _ = checkpoints.find(at_hand(checkpoint))
    chosen = listed(sets) + ([f"serve.port={port}"] if port is not None else [])
    settings = load(path / "config.json", chosen).serve
    api_key = find_or_make_key(os.environ, _key_file())
    stats_port, metrics_port = ports.free(2)
    # Ray Serve reads these only when it is imported.
    os.environ |= serve_environment(
        haproxy=settings.haproxy,
        run_dir=choose_run_dir(),
        stats_port=stats_port,
        metrics_port=metrics_port,
    )
    from metarec_ray.engine.serve.driver import serve as run

    say(f"starting; the API key is in METAREC_API_KEY or {_key_file()}")
    run(
        path,
        name=settings.name,
        host=settings.host,
        port=settings.port,
        replicas=settings.replicas,
        haproxy=settings.haproxy,
        api_key=api_key,
        on_ready=_announce,
    )


def rank(
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="http://HOST:PORT of an endpoint.", show_default=False),
    ],
    support: Annotated[
        str,
        typer.Option(metavar="ID[:VALUE],...", help="The user's events, oldest first; or none."),
    ] = "",
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    as_json: Json = False,
) -> None:
    """Ask an endpoint to rank for a user with these events; takes the key that `serve` takes."""
    from metarec_ray.service.auth import find_key
    from metarec_ray.service.client import rank as ask
    from metarec_ray.service.client import render

    answer = ask(url, support, k=k, api_key=find_key(os.environ, _key_file()))
    show(answer.model_dump(mode="json"), as_json, render(answer))


def _key_file() -> Path:
    from metarec_ray.engine.cluster.access import home

    return home(os.environ) / "api_key"


def _announce(url: str) -> None:
    print(url)
    sys.stdout.flush()
    say(f"next: metarec rank {url} --support ID,ID -k 10 (Ctrl-C ends the endpoint)")
