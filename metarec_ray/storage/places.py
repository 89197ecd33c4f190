"""Paths and URIs of runs and stores, found on whichever machine asks.

Knows which folders are working copies; does not know what lies in them.
"""

from pathlib import Path
from typing import NamedTuple

from metarec_ray.data.files.paths import is_remote
from metarec_ray.storage.uris import inside
from metarec_ray.storage.working_copy import WorkingCopy, state_of


def at_hand(place: str | Path) -> Path:
    """Return where a path, or a URI's folder for reading, lies on this machine."""
    if isinstance(place, Path) or not is_remote(place):
        return Path(place)
    return WorkingCopy(place).read()


def bring(path: Path) -> None:
    """Bring a file to where it belongs, if it lies in the working copy of a folder."""
    found = located(path)
    copy = found.copy()
    if copy is not None:
        copy.objects.upload(found.name, path)


def named(path: Path) -> str:
    """Return the URI of what lies in a working copy; of anything else its path as it is."""
    found = located(path)
    return str(path) if found.uri is None else inside(found.uri, found.name)


class Located(NamedTuple):
    """A path that every machine can find: of a file system they share, or in an object store.

    Attributes:
        path: absolute, on the machine that says it.
        uri: of the folder whose working copy it lies in; None for a path that all machines see.
        name: relative to that folder.
        lease: under which that folder is written; None if it is only read.

    """

    path: str
    uri: str | None
    name: str
    lease: str | None

    def copy(self) -> WorkingCopy | None:
        """Return the working copy on this machine; None for a path that all machines see."""
        return None if self.uri is None else WorkingCopy(self.uri, lease=self.lease)

    def to_read(self) -> "Located":
        """Return the place of one that writes nothing there."""
        return self._replace(lease=None)

    def here(self) -> Path:
        """Return the path on this machine, after bringing the folder here."""
        copy = self.copy()
        if copy is None:
            return Path(self.path)
        if copy.lease is None:
            copy.read()
        else:
            copy.join()
        return copy.folder / self.name


def located(path: Path) -> Located:
    """Return how other machines find a path of this one."""
    path = path.resolve()
    for folder in (path, *path.parents):
        state = state_of(folder)
        if state is not None:
            name = path.relative_to(folder).as_posix()
            return Located(str(path), state.uri, "" if name == "." else name, state.taken)
    return Located(str(path), None, "", None)
