"""A verb of the command line as a job: where it goes, the line it runs, the experiment it reads.

Knows addresses and words; does not know Ray, nor what the words mean (`engine.jobs.plan`).
"""

import shlex
from typing import NamedTuple

from metarec_ray.engine.cluster import access, local_cluster
from metarec_ray.errors import MachineError

ENTRYPOINT_CPUS = 0.1
"""Of the job's own process, which mostly waits: a whole CPU would keep a worker waiting."""
CONFIG = "config.yaml"
"""Name of the sent experiment, which a job's working folder holds."""


class Target(NamedTuple):
    """Where jobs go: the address of the dashboard, and the Python interpreter of the cluster."""

    address: str
    python: str


class Job(NamedTuple):
    """What is sent.

    Attributes:
        verb: for people, `data append`.
        words: of the command line.
        config: the experiment of the line, if it has one: the text of a file.
        environment: variables.
        run: the folder that it writes, absolute.

    """

    verb: str
    words: list[str]
    config: str | None
    environment: dict[str, str]
    run: str

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
