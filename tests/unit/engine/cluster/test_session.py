"""Signals around the start of Ray, which is played by a function."""

import signal
import sys
from collections.abc import Iterator

import pytest

from metarec_ray.engine.cluster.session import _refusal, own_sigterm


class _Heard(BaseException):
    """What the handler of a caller raises."""


def _ours(*_: object) -> None:
    raise _Heard


@pytest.fixture
def ours() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, _ours)
    yield
    signal.signal(signal.SIGTERM, before)


def start_ray(*, ended: bool = False) -> None:
    """Do with SIGTERM what `ray.init` does, and get one meanwhile."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
    if ended:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("ours")
def test_a_handler_of_sigterm_outlives_the_start_of_ray() -> None:
    with own_sigterm():
        start_ray()
    with pytest.raises(_Heard):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("ours")
def test_a_signal_while_ray_starts_is_ours_too() -> None:
    with pytest.raises(_Heard), own_sigterm():
        start_ray(ended=True)


def test_without_a_handler_of_ours_that_of_ray_stays() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with own_sigterm():
            start_ray()
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("error", "cause", "said"),
    [
        (ConnectionError("Failed to connect"), None, "must answer at the address, none does: h:1"),
        (ConnectionError("Failed to connect"), RuntimeError("no route"), "none does: h:1"),
        (
            ConnectionError("Failed to connect"),
            RuntimeError("InvalidAuthToken: Authentication token is missing"),
            "asks for its token, ours is missing or another: h:1 (RAY_ADDRESS): set RAY_AUTH_TOKEN",
        ),
        (
            RuntimeError("enabled but no authentication token was found"),
            None,
            "asks for its token, ours is missing or another: h:1",
        ),
    ],
)
def test_a_cluster_that_is_not_there_is_told_from_one_that_wants_its_token(
    error: Exception, cause: Exception | None, said: str
) -> None:
    error.__cause__ = cause
    assert said in _refusal("h:1", error)
