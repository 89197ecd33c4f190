"""Lines of progress: the phase, units done, rows a second, memory, time left.

Does not know what a unit does.
"""

import time
from collections.abc import Callable

INTERVAL_S = 2.0


class Meter:
    """Counts the units of one phase; says a line every two seconds, and at the end."""

    def __init__(
        self,
        say: Callable[[str], None],
        phase: str,
        units: str,
        total: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Take what says a line, a phase ("read"), its units ("chunks") and their total."""
        self.say, self.phase, self.units, self.total, self.clock = say, phase, units, total, clock
        self.begun = self.said = clock()
        self.done, self.rows, self.peak = 0, 0, 0

    def add(self, rows: int, peak_bytes: int) -> None:
        """Count a unit of so many rows, and the peak memory of its process."""
        self.done, self.rows = self.done + 1, self.rows + rows
        self.peak = max(self.peak, peak_bytes)
        now = self.clock()
        if now - self.said >= INTERVAL_S and self.done < self.total:
            self.said = now
            left = (now - self.begun) * (self.total - self.done) / self.done
            self.say(f"{self._so_far(now)}, {left:.0f} s left")

    def end(self) -> None:
        """Say the last line."""
        now = self.clock()
        self.say(f"{self._so_far(now)} in {now - self.begun:.1f} s")

    def _so_far(self, now: float) -> str:
        rate = self.rows / max(now - self.begun, 1e-9)
        units = f"{self.done} of {self.total} {self.units}"
        memory = f"{self.peak / 2**20:,.0f} MiB a worker"
        return f"prepare: {self.phase} {units}, {self.rows:,} rows, {rate:,.0f} rows/s, {memory}"
