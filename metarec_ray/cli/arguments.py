"""Arguments of several verbs, and the two outputs of a verb: results and progress."""

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer


def is_uri(text: str | Path) -> bool:
    """Return whether an argument is a URI, without what it takes to ask for one."""
    return "://" in str(text)


def local_path(text: str | Path) -> Path:
    """Return a path of this machine, `~` as the home folder; a URI is refused."""
    if is_uri(text):
        raise typer.BadParameter(f"must be a path of a file system that is mounted, got {text}")
    return Path(os.path.expanduser(text))


def place(text: str) -> str:
    """Return a path, `~` as the home folder, or a URI, of which its store is asked later."""
    return text if is_uri(text) else os.path.expanduser(text)


def absolute(text: str) -> str:
    """Return an absolute path; a URI as it is."""
    return text if is_uri(text) else str(Path(text).resolve())


ConfigFile = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG",
        parser=local_path,
        help="A YAML experiment, as in jobs/configs.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a key, as train.steps=100; repeatable."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Address = Annotated[
    str | None,
    typer.Option(metavar="URL", help="A cluster's dashboard; default: the local cluster."),
]


LINE = 100  # longest list on one line, characters


def say(line: str) -> None:
    """Write a line of progress to stderr; a run goes on if nobody can read it any more."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):  # a closed pipe, a closed terminal
            raise


def show(result: Mapping[str, object], as_json: bool, text: str | None = None) -> None:
    """Print a result to stdout: as a JSON object, as `text`, or one line per key."""
    if as_json:
        print(json.dumps(result, default=str))
    elif text is not None:
        print(text)
    else:
        print("\n".join(_lines(result)))


def _lines(result: Mapping[str, object]) -> list[str]:
    """Return one line per key; several values are on lines of their own below it."""
    width = max((len(key) for key in result), default=0)
    found: list[str] = []
    for key, value in result.items():
        if isinstance(value, Mapping) and len(value) > 1:
            found += [key, *(f"  {line}" for line in _lines(value))]
        elif isinstance(value, list | tuple) and len(value) > 1 and len(_plain(value)) > LINE:
            found += [key, *(f"  {_plain(one)}" for one in value)]
        else:
            found.append(f"{key:<{width}}  {_plain(value)}")
    return found


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_plain(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def data_folder() -> Path | None:
    """Return the folder where data sets are looked for first: `METAREC_DATA`."""
    named = os.environ.get("METAREC_DATA")
    return Path(named).expanduser() if named else None


def listed(values: Sequence[str] | None) -> list[str]:
    """Return the values of a repeatable option."""
    return list(values or ())
