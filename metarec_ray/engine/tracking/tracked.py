"""What is told of a run, whoever shows it: names, parameters, tags, points, how it ended.

Does not know where that comes from, or who is told.
"""

import json
import math
import os
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from metarec_ray import __version__
from metarec_ray.config.experiment import Experiment, tree_of
from metarec_ray.data.store.manifest import Manifest

Status = Literal["running", "finished", "failed", "killed", "refused"]
"""Refused is a command, not the run, which is what it was before."""
FAILED_BY = "metarec.why"
"""Tag: why a run failed."""
PACKAGES = ("ray", "torch")
_UNNAMED = re.compile(r"[^A-Za-z0-9_./ :-]")
_PASSWORD = re.compile(r"(\w+://)[^\s/@]*@")


class Point(NamedTuple):
    """Values at a step.

    Attributes:
        step: of the outer loop; of a bench, the number of known events.
        values: by their names, of which the last one is told last.
        time: seconds since 1970; None where nobody wrote it down.

    """

    step: int
    values: Mapping[str, float]
    time: float | None = None


class Tracked(NamedTuple):
    """All that is known of a run now; what was told of it before is in here, too.

    Attributes:
        key: within the folder, for ever the same; "" for the run that the others belong to.
        name: for people.
        params: what it was begun with.
        tags: what else is known of it.
        points: in the order in which they are told.
        status: now.

    """

    key: str
    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    points: Sequence[Point]
    status: Status


class Undelivered(Exception):
    """Who is told did not take it; the message is one line without secrets.

    Attributes:
        refused: that was the answer. Without one it may have been taken nevertheless.

    """

    def __init__(self, message: str, *, refused: bool = False):
        super().__init__(message)
        self.refused = refused


class Sink(Protocol):
    """Whom runs are told to."""

    def deliver(self, runs: Sequence[Tracked]) -> None:
        """Tell what has not been told of runs, that of key "" first; Undelivered if not all was."""
        ...


def params_of(experiment: Experiment) -> dict[str, str]:
    """Return every key of an experiment with its value as text."""
    return flat(tree_of(experiment))


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the leaves of a tree by their dotted keys, values as text.

    >>> flat({"train": {"steps": 3, "loss": None}, "run": {"dir": "a"}})
    {'train.steps': '3', 'train.loss': 'null', 'run.dir': 'a'}
    """
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return found


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers among values, by names that MLflow takes.

    >>> finite({"ndcg@10": 0.5, "seconds": 3, "loss": float("nan"), "why": "x", "done": True})
    {'ndcg_at_10': 0.5, 'seconds': 3.0}
    """
    return {
        named(name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def named(text: str) -> str:
    """Return a name of a parameter or metric that MLflow takes.

    >>> named("query_ndcg@10"), named("data.user.features.größe")
    ('query_ndcg_at_10', 'data.user.features.gr__e')
    """
    return _UNNAMED.sub("_", text.replace("@", "_at_"))


def provenance(manifest: Manifest, words: Sequence[str]) -> dict[str, str]:
    """Return the tags that say what a run was made of: store, log, versions, command line."""
    return {
        "metarec.command": command(words),
        "metarec.store_sha256": manifest.store_sha256,
        "metarec.source_fingerprint": manifest.source_fingerprint,
        "metarec.version.metarec_ray": __version__,
        "metarec.version.python": platform.python_version(),
        **{f"metarec.version.{name}": _version(name) for name in PACKAGES},
    }


def command(words: Sequence[str]) -> str:
    """Return a process's command line as it would be typed, without what may be a password.

    >>> command(["/usr/bin/metarec", "train", "a b.yaml", "--set", "x=s3://me:secret@bucket"])
    "metarec train 'a b.yaml' --set 'x=s3://***@bucket'"
    """
    first, *rest = words
    program = Path(first)
    own = program.name == "__main__.py" and program.parent.name == "metarec_ray"
    line = shlex.join(["metarec" if own else program.name, *rest])
    return unsecret(line)


def unsecret(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return a text as one line, without users and passwords of addresses and of MLflow."""
    for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        text = text.replace(environ.get(name) or "\0", "***")
    return " ".join(_PASSWORD.sub(r"\1***@", text).split())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
