"""A sink that fails, hangs or is gone: what is said, and that nobody waits for it."""

import threading
from collections.abc import Sequence

from metarec_ray.engine.tracking.delivery import Delivery, Pace
from metarec_ray.engine.tracking.tracked import Tracked, Undelivered
from tests.unit.engine.tracking.played import run

SOON = Pace(every_s=0.001, again_s=0.001)
NEVER = Pace(every_s=3600.0, again_s=3600.0)


class Heard:
    """A sink that keeps what it is told; what it is asked to do first may fail or wait."""

    def __init__(self) -> None:
        self.last: Sequence[Tracked] = ()
        self.refusals = 0
        self.open = threading.Event()
        self.open.set()
        self.calls = 0

    def deliver(self, runs: Sequence[Tracked]) -> None:
        self.calls += 1
        self.open.wait()
        if self.refusals:
            self.refusals -= 1
            raise Undelivered("connection refused")
        self.last = runs


def test_what_is_known_at_the_end_is_told_at_the_end() -> None:
    heard, known = Heard(), [run(5)]
    delivery = Delivery(lambda: heard, lambda: list(known), print, pace=NEVER)
    known[0] = run(20, "finished")
    assert delivery.close(10.0)
    assert heard.last == [run(20, "finished")]


def test_failures_are_said_once_and_all_is_told_in_the_end() -> None:
    heard, said = Heard(), list[str]()
    heard.refusals = 5
    connected: list[int] = []

    def connect() -> Heard:
        connected.append(1)
        return heard

    delivery = Delivery(connect, lambda: [run(20)], said.append, pace=SOON)
    while heard.calls < 7:
        threading.Event().wait(0.001)
    assert delivery.close(10.0)
    assert said == ["connection refused"]
    assert heard.last == [run(20)]
    assert len(connected) == 1


def test_a_server_that_hangs_keeps_nobody_waiting_longer_than_asked() -> None:
    heard = Heard()
    heard.open.clear()
    delivery = Delivery(lambda: heard, lambda: [run(5)], print, pace=NEVER)
    assert not delivery.close(0.01)
    heard.open.set()


def test_what_was_not_taken_at_the_end_is_known() -> None:
    heard, said = Heard(), list[str]()
    heard.refusals = 1_000_000
    delivery = Delivery(lambda: heard, lambda: [run(5)], said.append, pace=NEVER)
    assert not delivery.close(10.0)
    assert len(said) == 1


def test_a_disk_that_refuses_is_a_failure_like_any_other() -> None:
    said: list[str] = []

    def connect() -> Heard:
        raise OSError(28, "No space left on device")

    assert not Delivery(connect, lambda: [run(5)], said.append, pace=NEVER).close(10.0)
    assert said == ["[Errno 28] No space left on device"]
