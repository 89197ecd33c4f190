"""A local, token-secured Ray cluster of one node: start it, find it, end its processes only.

Knows `ray start`, a state file and process ids; imports no ray, and leaves any other Ray alone.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from metarec_ray.atomic import lock
from metarec_ray.engine.cluster import access, ports
from metarec_ray.engine.cluster.processes import MARK, end, family, root, started
from metarec_ray.engine.cluster.surroundings import (
    FOLDER_BYTES,
    SESSION_BYTES,
    SOCKET_BYTES,
    temporary_folder,
)
from metarec_ray.errors import MachineError, RunFailed

START_SECONDS = 90.0
HEALTH = {
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "3",
}
"""Environment of a head that gives a silent node up after 21 s at most; Ray's own takes 65 s."""


class Cluster(BaseModel):
    """What `up` leaves in `cluster.json` for the commands that follow.

    `mark` is in the environment of every process of the cluster; `started` (clock ticks since
    boot) tells the head from another process that got its id later.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mark: str
    pid: int
    started: int
    address: str
    folder: Path
    token_path: Path | None
    python: str
    num_cpus: int


def up(num_cpus: int, environ: access.Environ, *, object_store_bytes: int) -> Cluster:
    """Start a cluster and return it once it answers with the token and refuses without.

    Raises:
        MachineError: a cluster is up already, or token authentication is switched off.
        RunFailed: Ray did not start; the sentence holds the end of its log.

    """
    if environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        raise MachineError(
            "a cluster is started with token authentication only, got "
            f"RAY_AUTH_MODE={environ['RAY_AUTH_MODE']} (environment)"
        )
    with _only_one(access.writable_home(environ)):
        running = current(environ)
        if running is not None:
            raise MachineError(
                f"one local cluster at a time, one is up at {running.address}: metarec cluster down"
            )
        return _start(num_cpus, environ, object_store_bytes=object_store_bytes)


def down(environ: access.Environ) -> Cluster | None:
    """End the cluster, its jobs included, and return it; None if none was up.

    Returns once none of its processes is left.
    """
    if not access.home(environ).is_dir():
        return None
    with _only_one(access.writable_home(environ)):
        cluster = _read(environ)
        if cluster is None:
            return None
        _end(cluster)
        _state_file(environ).unlink(missing_ok=True)
        return cluster


def processes(cluster: Cluster) -> list[psutil.Process]:
    """Return every process of the cluster that is alive."""
    return family(cluster.pid, cluster.started, cluster.mark)


def current(environ: access.Environ) -> Cluster | None:
    """Return the cluster that is up; None without one, or if the process of its file is gone."""
    cluster = _read(environ)
    if cluster is None or root(cluster.pid, cluster.started) is None:
        return None
    return cluster


def command(python: str, numbers: list[int], folder: Path, num_cpus: int, store: int) -> list[str]:
    """Return the `ray start` line; `numbers` are ports for the GCS, dashboard, client and agent."""
    gcs, dashboard, client, agent = numbers
    return [
        *(python, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--node-ip-address=127.0.0.1", f"--port={gcs}", f"--num-cpus={num_cpus}"),
        *("--include-dashboard=true", "--dashboard-host=127.0.0.1"),
        *(f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"),
        *(f"--dashboard-agent-listen-port={agent}", f"--object-store-memory={store}"),
        *(f"--temp-dir={folder / 'ray'}", "--disable-usage-stats"),
    ]


def _start(num_cpus: int, environ: access.Environ, *, object_store_bytes: int) -> Cluster:
    named = environ.get("RAY_AUTH_TOKEN_PATH")
    token_path = access.use_own_token(environ) or (Path(named).resolve() if named else None)
    place = temporary_folder(environ, SOCKET_BYTES - SESSION_BYTES - FOLDER_BYTES)
    folder = Path(tempfile.mkdtemp(prefix="metarec-", dir=place))
    mark, numbers = secrets.token_hex(8), ports.free(4)
    with (folder / "head.log").open("wb") as log:
        child = subprocess.Popen(
            command(sys.executable, numbers, folder, num_cpus, object_store_bytes),
            env=_environment(environ, mark),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
        )
    cluster = Cluster(
        mark=mark,
        pid=child.pid,
        started=started(child.pid) or 0,
        address=f"http://127.0.0.1:{numbers[1]}",
        folder=folder,
        token_path=token_path,
        python=sys.executable,
        num_cpus=num_cpus,
    )
    access.write_private(_state_file(environ), cluster.model_dump_json(indent=2) + "\n")
    try:
        _wait_until_it_answers(cluster, child, environ)
    except BaseException:
        _end(cluster)
        _state_file(environ).unlink(missing_ok=True)
        raise
    return cluster


def _environment(environ: access.Environ, mark: str) -> dict[str, str]:
    child = {k: v for k, v in environ.items() if k not in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")}
    # A job finds `python` on the PATH of the process that started Ray.
    path = os.pathsep.join([str(Path(sys.executable).parent), child.get("PATH", os.defpath)])
    return {
        **HEALTH,
        **child,
        "PATH": path,
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        MARK: mark,
    }


def _wait_until_it_answers(
    cluster: Cluster, child: subprocess.Popen[bytes], environ: access.Environ
) -> None:
    token = environ.get("RAY_AUTH_TOKEN") or (cluster.token_path or Path()).read_text("utf-8")
    deadline = time.monotonic() + START_SECONDS
    while _status(cluster.address, token.strip()) != 200:
        if child.poll() is not None or time.monotonic() > deadline:
            log = (cluster.folder / "head.log").read_text("utf-8", "replace").split("\n")
            last = " / ".join(line.strip() for line in log if line.strip())[-600:]
            raise RunFailed(f"Ray must answer within {START_SECONDS:.0f} s, it did not: {last}")
        time.sleep(0.2)
    if _status(cluster.address, None) != 401:
        raise MachineError(f"a cluster must refuse callers without a token: {cluster.address}")


def _status(address: str, token: str | None) -> int:
    """Return the HTTP status of the dashboard; 0 while nothing listens."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{address}/api/version", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def _end(cluster: Cluster) -> None:
    left = end(cluster.pid, cluster.started, cluster.mark)
    if left:
        raise RunFailed(f"no process of the cluster may be left: {[p.pid for p in left]}")
    shutil.rmtree(cluster.folder, ignore_errors=True)


def _state_file(environ: access.Environ) -> Path:
    return access.home(environ) / "cluster.json"


def _read(environ: access.Environ) -> Cluster | None:
    path = _state_file(environ)
    try:
        return Cluster.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except ValidationError:
        raise MachineError(
            f"the cluster's state must be what `up` wrote, it is not: {path}"
        ) from None


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    with (home / "cluster.lock").open("w") as stream:
        lock(stream, wait=True)
        yield
