"""The environment variables of Ray Serve, set before ray is imported, which reads them only then.

Knows names and values; does not import ray or start anything.
"""

import secrets
from pathlib import Path
from typing import NamedTuple


class Queue(NamedTuple):
    """Back-pressure of one replica: requests that it works on, and requests that wait for it."""

    ongoing: int
    waiting: int


# HAProxy sheds load first; behind it a replica's queue is the second limit. Serve's own proxy
# asks a full replica again after a pause: 4 connections got 45 answers/s with 1 ongoing request
# allowed, 148 with 8.
QUEUES = {True: Queue(64, 200), False: Queue(8, 32)}
# Requests per replica above which HAProxy refuses, in 0.1 ms and without asking a replica.
SHED_PER_REPLICA = 6
REQUEST_TIMEOUT_S = 5.0

COMMON = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
WITHOUT_HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "0",
    # Otherwise every replica would open a port that nothing uses.
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
}
WITH_HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # Ranking has no side effects, so a request to a dying replica may be repeated.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response junk-response",
    "RAY_SERVE_HAPROXY_RETRIES": "3",
    # Idle clients are disconnected, and replicas that take longer than any answer should.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "30",
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "10",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
}


def choose_run_dir() -> Path:
    """Return a path for HAProxy's configuration and sockets; `serving` creates the folder.

    It is short, whatever TMPDIR is: the path of a Unix socket has at most 107 bytes.
    """
    return Path("/tmp") / f"metarec-{secrets.token_hex(5)}"


def serve_environment(
    *, haproxy: bool, run_dir: Path, stats_port: int = 8404, metrics_port: int = 9101
) -> dict[str, str]:
    """Return the variables that must be set before `engine.serve.driver` is imported.

    With HAProxy both ports must be free: two endpoints on one machine need different ones.
    """
    if not haproxy:
        return COMMON | WITHOUT_HAPROXY
    return {
        **COMMON,
        **WITH_HAPROXY,
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(run_dir / "haproxy"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run_dir / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run_dir / "admin"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(run_dir / "metrics"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run_dir),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run_dir / "state"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
    }
