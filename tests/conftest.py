"""Threads, seeds, the Ray session and a small synthetic store: what tests of every folder share."""

import gc
import os
import secrets
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# Ray reads these when it is first imported, which is before the first test runs.
RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS": "0",
}


def pytest_configure() -> None:
    os.environ.update(RAY_ENVIRONMENT)
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
    # Children would inherit that a shell's `&` has Ctrl-C ignored, and tests send it to them.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import everything without a garbage collection, and keep what is imported out of later ones.

    Torch and what is collected are a million objects that stay: to look through them again and
    again takes 4 s of each worker.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _one_thread_and_one_seed() -> None:
    import torch

    torch.set_num_threads(1)
    # Not torch.manual_seed: where no device has been used it keeps a stack trace for each kind of
    # device, a millisecond a test.
    torch.default_generator.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAREC_HOME", str(tmp_path_factory.getbasetemp() / "metarec-home"))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for all tests that need one: four logical CPUs, no dashboard."""
    from metarec_ray.engine.cluster.session import ray_session

    with ray_session(4, object_store_bytes=300_000_000):
        yield


@pytest.fixture(scope="session")
def synthetic_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task store of the synthetic log, small enough to build in a second."""
    from metarec_ray.data.log.reading import read_log
    from metarec_ray.data.settings import Data, Synthetic
    from metarec_ray.data.store.writing import build_store

    folder = tmp_path_factory.mktemp("synthetic") / "store"
    settings = Data(buckets=2, synthetic=Synthetic(users=300, items=80, mean_events=20.0))
    build_store(read_log(settings), settings, folder)
    return folder
