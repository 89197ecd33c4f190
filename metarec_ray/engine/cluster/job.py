"""A verb of the command line as a job: where it goes, the line it runs, the experiment it reads.

Knows configurations and paths; does not know Ray. All that is sent is the resolved experiment, a
file of some kilobytes: no code is uploaded, no package installed, no URI fetched.
"""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metarec_ray.config.experiment import absolute, dump, load
from metarec_ray.engine.cluster import access, local_cluster
from metarec_ray.errors import ConfigError, MachineError

VERBS = ("prepare", "train", "tune", "evaluate")
ENTRYPOINT_CPUS = 0.1
"""Of the job's own process, which mostly waits: a whole CPU would keep a worker waiting."""
CONFIG = "config.yaml"


class Target(NamedTuple):
    """Where jobs go: the address of the dashboard, and the Python interpreter of the cluster."""

    address: str
    python: str


class Job(NamedTuple):
    """What is sent: words of the command line, their experiment if any, environment variables."""

    words: list[str]
    config: str | None
    environment: dict[str, str]

    def line(self, python: str) -> str:
        """Return the shell line for an interpreter of the cluster."""
        return shlex.join([python, "-m", "metarec_ray", *self.words])


def find_target(address: str | None, environ: access.Environ) -> Target:
    """Return where to submit: `address`, else `RAY_API_SERVER_ADDRESS`, else the local cluster.

    The token of the local cluster is used for that cluster only; for others Ray looks for one
    (`RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH`, `~/.ray/auth_token`).
    """
    local = local_cluster.current(environ)
    asked = address or environ.get("RAY_API_SERVER_ADDRESS") or (local.address if local else None)
    if asked is None:
        raise MachineError("a job needs a cluster, none is up: metarec cluster up, or --address")
    if not asked.startswith(("http://", "https://")):
        raise MachineError(f"an address must be http://HOST:PORT of a dashboard, got {asked}")
    if local is None or asked.rstrip("/") != local.address:
        access.require_named_token(environ)
        return Target(asked, "python")
    if local.token_path and not environ.get("RAY_AUTH_TOKEN"):
        environ["RAY_AUTH_TOKEN_PATH"] = str(local.token_path)
    return Target(asked, local.python)


def plan(
    verb: str, subject: Path, overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> Job:
    """Return the job of `metarec VERB SUBJECT OPTIONS`; reads the configuration, sends nothing.

    A configuration is checked here, with its overrides, before a cluster is asked. Its paths
    become absolute; all machines of a cluster must see them.
    """
    if verb not in VERBS:
        raise ConfigError(f"what is submitted must be one of {', '.join(VERBS)}, got {verb!r}")
    if verb == "evaluate" and subject.is_dir():
        sets = [word for override in overrides for word in ("--set", override)]
        return Job([verb, str(subject.resolve()), *sets, *options], None, _variables())
    config = dump(absolute(load(subject, overrides), Path.cwd()))
    return Job([verb, CONFIG, *options], config, _variables())


def _variables() -> dict[str, str]:
    """Return the variables of this shell that a job needs: where data sets lie."""
    data = os.environ.get("METAREC_DATA")
    return {"METAREC_DATA": str(Path(data).expanduser().resolve())} if data else {}
