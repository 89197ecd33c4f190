"""Which group of workers may write a run: the one that began last.

A node that is cut off goes on for a while, and others take its place: they compute the same bits,
but two that write one folder would mix their lines. Knows one file, or object; does not know who
trains.
"""

import uuid
from pathlib import Path

from metarec_ray.atomic import replace_text
from metarec_ray.errors import RunFailed
from metarec_ray.storage.working_copy import WorkingCopy

NAME = "generation"


class Fence:
    """The right to write a run's folder, until another group takes it."""

    def __init__(self, directory: Path, copy: WorkingCopy | None = None):
        """Take the right from whoever had it; `copy` is the working copy that the folder is in."""
        self.path, self.own = directory / NAME, uuid.uuid4().hex
        self.copy = copy
        replace_text(self.path, self.own)
        if copy is not None:
            copy.objects.write(self._object(copy), self.own.encode())

    def require(self) -> None:
        """Raise RunFailed if another group has begun since, or the folder cannot be read."""
        try:
            found = self.path.read_text("utf-8")
        except OSError as error:
            raise RunFailed(f"a run must be able to read its folder, got {error}") from error
        self._check(found)

    def require_there(self) -> None:
        """Raise RunFailed if another group has begun since, on whatever machine.

        A MachineError if the object store does not answer.
        """
        if self.copy is not None:
            self._check((self.copy.objects.read(self._object(self.copy)) or b"").decode())

    def _object(self, copy: WorkingCopy) -> str:
        return self.path.relative_to(copy.folder).as_posix()

    def _check(self, found: str) -> None:
        if found != self.own:
            raise RunFailed(
                "a run is written by the group of workers that began last, another one has begun "
                f"since ({self.path.parent})"
            )
