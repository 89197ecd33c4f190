"""A Ray session for one verb: join the cluster that was named, else start one for this process.

Knows how Ray is started and ended; does not know what runs on it.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import ray
from ray.exceptions import AuthenticationError, RpcError

from metarec_ray.engine.cluster import access, machine, surroundings
from metarec_ray.engine.cluster.surroundings import VARIABLE, cluster_address
from metarec_ray.errors import MachineError

OBJECT_STORE_BYTES, LEAST_STORE_BYTES = 500_000_000, 80_000_000
# Two train workers, a driver and data tasks or replicas must fit on a laptop: CPUs are logical.
MIN_LOGICAL_CPUS = 4


@contextmanager
def ray_session(
    num_cpus: int | None = None,
    address: str | None = None,
    *,
    object_store_bytes: int = OBJECT_STORE_BYTES,
    dashboard: bool = False,
    log_to_driver: bool = False,
) -> Iterator[None]:
    """Hold a Ray session open for the length of a `with` block.

    A session that this process is in already is used and left open. Otherwise `address`, else
    `RAY_ADDRESS` (set in a Ray job), is joined; without either a local, token-secured Ray is
    started, and ended with the block. With `log_to_driver` the output of workers is shown here.
    """
    if ray.is_initialized():
        yield
        return
    target = address or cluster_address(os.environ)
    surroundings.prepare(os.environ, Path.cwd())
    if target:
        join(target, log_to_driver=log_to_driver)
    else:
        _start(num_cpus, object_store_bytes, dashboard=dashboard, log_to_driver=log_to_driver)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def interruptible() -> Iterator[None]:
    """Make Ctrl-C raise KeyboardInterrupt in a `with` block, and restore its handler afterwards.

    Ray Train and Ray Tune replace the handler of SIGINT and do not restore it; that of Train ends
    the process.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Set our handler of SIGTERM again after a `with` block that starts Ray.

    Ray replaces it twice: by one that raises SystemExit, and then in its core by one that writes a
    stack and aborts.
    """
    before = signal.getsignal(signal.SIGTERM)
    mine = callable(before) and threading.current_thread() is threading.main_thread()
    try:
        yield
    except SystemExit as ended:
        if mine and callable(before) and ended.code == signal.SIGTERM:
            before(signal.SIGTERM, None)
        raise
    finally:
        if mine:
            signal.signal(signal.SIGTERM, before)


def join(
    target: str, *, log_to_driver: bool = False, runtime_env: dict[str, object] | None = None
) -> None:
    """Join the cluster at an address.

    Raises:
        MachineError: none answers, or it does not take our token.

    """
    access.require_named_token(os.environ)
    try:
        with own_sigterm():
            ray.init(
                address=target,
                runtime_env=runtime_env,
                logging_level=logging.WARNING,
                log_to_driver=log_to_driver,
            )
    except (ConnectionError, TimeoutError, AuthenticationError, RpcError) as error:
        raise MachineError(_refusal(target, error)) from error


def _refusal(target: str, error: Exception) -> str:
    # A wrong token is a ConnectionError whose cause says so.
    told = f"{error} {error.__cause__}"
    if "AuthToken" not in told and "authentication token" not in told:
        return f"a Ray cluster must answer at the address, none does: {target} ({VARIABLE})"
    return (
        f"a cluster asks for its token, ours is missing or another: {target} ({VARIABLE}): set "
        "RAY_AUTH_TOKEN_PATH to a file with it; of metarec cluster up it is "
        f"{access.home(os.environ) / 'auth_token'}"
    )


def _start(
    num_cpus: int | None, object_store_bytes: int, *, dashboard: bool, log_to_driver: bool
) -> None:
    access.use_own_token(os.environ)
    share = machine.memory_limit(psutil.virtual_memory().total) // 4
    with own_sigterm():
        ray.init(
            address="local",
            num_cpus=num_cpus or max(MIN_LOGICAL_CPUS, machine.cpus()),
            object_store_memory=max(LEAST_STORE_BYTES, min(object_store_bytes, share)),
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            logging_level=logging.WARNING,
            log_to_driver=log_to_driver,
        )
