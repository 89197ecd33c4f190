"""A folder of an object store as a folder of this machine, both kept equal.

Everything that reads and writes a run works on files; the copy brings them from the store, and
what changes back. Knows which side is right; does not know what the files are.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from metarec_ray.atomic import lock, replace_text
from metarec_ray.errors import MachineError
from metarec_ray.storage import lease as leases
from metarec_ray.storage.changes import Infos, Mark, changes, in_order, info_of, is_shared, scan
from metarec_ray.storage.objects import Info, Objects
from metarec_ray.storage.uris import place

STATE, _LOCK = ".copy.json", ".copy.lock"
_AT_ONCE = 8
"""Objects on their way at once."""


class WorkingCopy:
    """The copy of a URI's folder on this machine; processes of the machine share it.

    Attributes:
        folder: of the copy.
        lease: under which it is written; None for a copy that is only read.

    """

    def __init__(self, uri: str, *, lease: str | None = None, objects: Objects | None = None):
        self.objects = objects or Objects(uri)
        self.folder = place(uri)
        self.lease = lease

    def take(self) -> None:
        """Take the right to write, and bring the folder here.

        What a killed process of this machine could not bring to the store is brought there now, if
        nobody has written since.

        Raises:
            ConfigError: another process writes.
            MachineError: the store does not answer, or may not be written.

        """
        with self._locked():
            before = self._lease()
            last = leases.holder(self.objects)
            self.lease = leases.take(self.objects, own=before)
            try:
                self._settle(own=before is not None and before == last)
            except BaseException:
                with suppress(MachineError):
                    leases.beat(self.objects, self.lease, ended=True)
                raise

    def join(self) -> None:
        """Write beside the process that has taken the right to, on whatever machine."""
        with self._locked():
            self._settle(own=self._lease() == self.lease)

    def read(self) -> Path:
        """Bring the folder here for reading, and return it; what was written here stays."""
        with self._locked():
            self._settle(own=True, only_here=True)
        return self.folder

    def keep(self, *, allow: Callable[[], None] | None = None) -> None:
        """Make the folder and its objects equal: what has changed here goes there, and back.

        Args:
            allow: raises an error if nothing may be written any more.

        Raises:
            RunFailed: somebody else writes meanwhile.
            MachineError: the store does not answer; the same call goes on.

        """
        with self._locked():
            if self.lease is not None:
                leases.require(self.objects, self.lease)
            if allow is not None:
                allow()
            self._keep(self._marks(), scan(self.folder), only_here=False)

    def _settle(self, *, own: bool, only_here: bool = False) -> None:
        """Bring the folder here; unless what lies here is our `own`, the store alone is right."""
        here = scan(self.folder)
        marks = self._marks() if own else {}
        if not own:
            there = self._there()
            for name in here:
                if name not in there:
                    self._unlink(name)
            here = {}
        self._keep(marks, here, only_here=only_here)

    def _keep(self, marks: dict[str, Mark], here: Infos, *, only_here: bool) -> None:
        there = self._there()
        found = changes(here, there, marks)
        marks = {name: mark for name, mark in marks.items() if name in here or name in there}
        try:
            if not only_here:
                self._upload(found.upload, here, marks)
            self._download(found.download, there, marks)
            if not only_here:
                for name in _announcing_first(found.remove_there):
                    self.objects.remove(name)
                    marks.pop(name, None)
            for name in _announcing_first(found.remove_here):
                self._unlink(name)
                marks.pop(name, None)
        finally:
            self._remember(marks)

    def _upload(self, names: list[str], here: Infos, marks: dict[str, Mark]) -> None:
        def upload(name: str) -> Info | None:
            with suppress(FileNotFoundError):  # gone again, which the next time finds
                self.objects.upload(name, self.folder / name)
                return self.objects.info(name)
            return None

        for name, info in self._each(upload, names):
            if info is not None:
                marks[name] = Mark(here[name], info)

    def _download(self, names: list[str], there: Infos, marks: dict[str, Mark]) -> None:
        def download(name: str) -> Info | None:
            path, written = self.folder / name, there[name].written
            if not self.objects.download(name, path):
                return None
            os.utime(path, ns=(written, written))  # when it was written, not when it came here
            return info_of(path)

        for name, info in self._each(download, names):
            if info is not None:
                marks[name] = Mark(info, there[name])

    def _each(
        self, move: Callable[[str], Info | None], names: list[str]
    ) -> Iterator[tuple[str, Info | None]]:
        """Yield each name with what `move` returns, group by group in their order."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for group in in_order(names):
                yield from zip(group, pool.map(move, group), strict=True)

    def _there(self) -> dict[str, Info]:
        return {name: info for name, info in self.objects.list().items() if is_shared(name)}

    def _unlink(self, name: str) -> None:
        path = self.folder / name
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == self.folder:
                return
            with suppress(OSError):  # no longer empty
                parent.rmdir()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("a", encoding="utf-8") as stream:
            lock(stream, wait=True)
            yield

    def _lease(self) -> str | None:
        return self._state().get("lease")

    def _marks(self) -> dict[str, Mark]:
        found = self._state().get("marks", {})
        return {name: Mark(Info(*one[0]), Info(*one[1])) for name, one in found.items()}

    def _state(self) -> dict:
        with suppress(OSError, ValueError):
            return json.loads((self.folder / STATE).read_text("utf-8"))
        return {}

    def _remember(self, marks: dict[str, Mark]) -> None:
        state = {"uri": self.objects.uri, "lease": self.lease or self._lease(), "marks": marks}
        replace_text(self.folder / STATE, json.dumps(state))


def _announcing_first(names: Iterable[str]) -> Iterator[str]:
    for group in reversed(list(in_order(names))):
        yield from group
