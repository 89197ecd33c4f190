"""The job of a command line: what is wrong with it is found here, before anything is sent.

Knows configurations and paths; does not know Ray. All that is sent is the resolved experiment, a
file of some kilobytes: no code is uploaded, no package installed, no URI fetched.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from metarec_ray.config.experiment import Experiment, absolute, dump, load
from metarec_ray.data.store.append import instant
from metarec_ray.engine.cluster.job import Job
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.bench.protocols import PROTOCOLS


class Line(NamedTuple):
    """A command line that the verb has parsed.

    Attributes:
        verb: `train`, `data append`.
        words: it as a job runs it: the configuration is `config.yaml`, paths are absolute, and
            `--set` is left out.
        config: the configuration that was named; None for a line without one.
        sets: `key=value`, as `--set` takes them.
        values: what was given or is the default, by the name of the parameter.

    """

    verb: str
    words: list[str]
    config: Path | None
    sets: list[str]
    values: Mapping[str, object]


def plan(line: Line) -> Job:
    """Return the job of a line; reads the configuration, sends nothing.

    A configuration is checked here, with its overrides, before a cluster is asked. Its paths
    become absolute; all machines of a cluster must see them.

    Raises:
        MetarecError: what the verb would refuse of its configuration or its options.

    """
    _require_protocol(line)
    if line.config is None:
        sets = [word for override in line.sets for word in ("--set", override)]
        run = str(line.values.get("target") or "")
        return Job(line.verb, [*line.words, *sets], None, _variables(), run)
    experiment = absolute(load(line.config, [*line.sets, *_told(line)]), Path.cwd())
    since = line.values.get("since")
    if isinstance(since, str):
        instant(since, experiment.data)
    run = _run(line, experiment)
    return Job(line.verb, line.words, dump(experiment), _variables(), run)


def _require_protocol(line: Line) -> None:
    asked = line.values.get("protocol", PROTOCOLS[0])
    if asked not in PROTOCOLS:
        raise ConfigError(f"--protocol must be one of {', '.join(PROTOCOLS)}, got {asked!r}")


def _told(line: Line) -> list[str]:
    """Return what options say about the experiment, as its keys."""
    teacher, seeds = line.values.get("teacher"), line.values.get("seeds")
    told = [] if teacher is None else [f"train.teacher={teacher}"]
    return told if seeds is None else [*told, f"bench.seeds={seeds}"]


def _run(line: Line, experiment: Experiment) -> str:
    """Return the folder, or its URI, that the job writes."""
    if line.verb in ("prepare", "data append"):
        return experiment.store_place
    out = line.values.get("out")
    return str(out) if isinstance(out, Path) else experiment.run.dir


def _variables() -> dict[str, str]:
    """Return the variables of this shell that a job needs: where data sets lie."""
    data = os.environ.get("METAREC_DATA")
    return {"METAREC_DATA": str(Path(data).expanduser().resolve())} if data else {}
