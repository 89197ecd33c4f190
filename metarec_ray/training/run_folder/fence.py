"""Which group of workers may write a run: the one that began last.

A node that is cut off goes on for a while, and others take its place: they compute the same bits,
but two that write one folder would mix their lines. Knows one file; does not know who trains.
"""

import uuid
from pathlib import Path

from metarec_ray.atomic import replace_text
from metarec_ray.errors import RunFailed

NAME = "generation"


class Fence:
    """The right to write a run's folder, until another group takes it."""

    def __init__(self, directory: Path):
        """Take the right from whoever had it."""
        self.path, self.own = directory / NAME, uuid.uuid4().hex
        replace_text(self.path, self.own)

    def require(self) -> None:
        """Raise RunFailed if another group has begun since, or the folder cannot be read."""
        try:
            found = self.path.read_text("utf-8")
        except OSError as error:
            raise RunFailed(f"a run must be able to read its folder, got {error}") from error
        if found != self.own:
            raise RunFailed(
                "a run is written by the group of workers that began last, another one has begun "
                f"since ({self.path.parent})"
            )
