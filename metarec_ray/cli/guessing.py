"""`metarec init`: an experiment for a log of one's own, guessed from the head of its files."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from metarec_ray.cli.arguments import Json, show


def init(
    log: Annotated[
        str, typer.Argument(metavar="LOG", help="A file or a folder.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("experiment.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Json = False,
) -> None:
    """Write an experiment for a log: what its columns mean, guessed from its first rows."""
    from metarec_ray.atomic import replace_text
    from metarec_ray.data.guess import writing
    from metarec_ray.data.guess.finding import leaves, plain
    from metarec_ray.data.guess.guess import guess
    from metarec_ray.errors import ConfigError

    out = out.expanduser()
    found = guess(log, now=datetime.now(UTC))
    if out.exists() and not force:
        raise ConfigError(f"a file is not overwritten without --force, {out} exists")
    folder = f"runs/{Path(log).expanduser().resolve().name.partition('.')[0] or 'log'}"
    replace_text(out, writing.experiment(found, source=log, folder=folder))
    result = {
        "config": str(out),
        "data": plain(found.data),
        "why": {key: one.why for key, one in leaves(found.data) if one.why},
        "other_readings": {
            key: [list(other) for other in one.others]
            for key, one in leaves(found.data)
            if one.others
        },
        "to_fill": found.open,
        "unused": found.unused,
    }
    show(result, as_json, writing.shown(found, str(out)))
