"""How what is known of runs gets to who is told: beside the work, again until it is there.

Knows when to try and when to say that it failed; does not know what is told, or to whom.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from metarec_ray.engine.tracking.tracked import Sink, Tracked, Undelivered

EVERY_S = 2.0
AGAIN_S = 30.0
"""After a failure it is tried so much later."""
PATIENCE_S = 30.0
"""A run that has ended waits so long, at most, for what is not told yet."""
INTERRUPTED_S = 8.0
"""One that a signal ends: its process has half a minute."""


class Pace(NamedTuple):
    """Seconds between attempts, and after one that failed."""

    every_s: float = EVERY_S
    again_s: float = AGAIN_S


PACE = Pace()


class Delivery:
    """Tells a sink, in a thread of its own, what is known of runs, until it is closed.

    Nobody waits for the sink before the end. A failure is said once; what was not delivered is
    part of what is known at the next attempt.
    """

    def __init__(
        self,
        connect: Callable[[], Sink],
        known: Callable[[], Sequence[Tracked]],
        failed: Callable[[str], None],
        *,
        pace: Pace = PACE,
    ):
        """Deliver what `known` returns to what `connect` returns.

        `failed` is told why, the first time; it is called in the thread.
        """
        self.connect, self.known, self.failed, self.pace = connect, known, failed, pace
        self._sink: Sink | None = None
        self._told = False
        self._whole = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._deliver, name="tracking", daemon=True)
        self._thread.start()

    def close(self, patience_s: float) -> bool:
        """Try once more, for at most `patience_s`; return whether all was delivered."""
        self._closing.set()
        self._thread.join(patience_s)
        return self._whole and not self._thread.is_alive()

    def _deliver(self) -> None:
        while True:
            last = self._closing.is_set()
            self._whole = self._attempt()
            if last:
                return
            self._closing.wait(self.pace.every_s if self._whole else self.pace.again_s)

    def _attempt(self) -> bool:
        try:
            known = self.known()  # First: what it has seen has a time, whenever it is told.
            if self._sink is None:
                self._sink = self.connect()
            self._sink.deliver(known)
        except (Undelivered, OSError) as error:
            if not self._told:
                self._told = True
                self.failed(str(error))
            return False
        return True
