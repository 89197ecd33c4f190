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
from typing import NamedTuple

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
            state, last = self._state(), leases.holder(self.objects)
            self.lease = leases.take(self.objects, own=state.taken)
            try:
                self._settle(state, is_last=state.content == last)
                self._remember(self._state()._replace(taken=self.lease, content=self.lease))
            except BaseException:
                with suppress(MachineError):
                    leases.beat(self.objects, self.lease, ended=True)
                raise

    def join(self) -> None:
        """Write beside the process that has taken the right to, on whatever machine.

        Raises:
            RunFailed: another one has taken it since.
            MachineError: the store does not answer.

        """
        with self._locked():
            leases.require(self.objects, str(self.lease))
            state = self._state()
            self._settle(state, is_last=state.content == self.lease)
            self._remember(self._state()._replace(content=self.lease))

    def read(self) -> Path:
        """Bring the folder here for reading, and return it; what is written here meanwhile stays.

        A MachineError if the store does not answer.
        """
        with self._locked():
            state, last = self._state(), leases.holder(self.objects)
            self._settle(state, is_last=state.content == last, only_here=True)
            self._remember(self._state()._replace(content=last))
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
            self._keep(self._state(), scan(self.folder))

    def _settle(self, state: "State", *, is_last: bool, only_here: bool = False) -> None:
        """Bring the folder here.

        Unless whoever wrote the store last `is_last` that this folder knows of, the store alone is
        right: what was written here since is left out.
        """
        here = scan(self.folder)
        if not is_last:
            there = self._there()
            for name in here:
                if name not in there:
                    self._unlink(name)
            here, state = {}, state._replace(marks={})
        self._keep(state, here, only_here=only_here)

    def _keep(self, state: "State", here: Infos, *, only_here: bool = False) -> None:
        there = self._there()
        found = changes(here, there, state.marks)
        marks = {name: mark for name, mark in state.marks.items() if name in here or name in there}
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
            self._remember(state._replace(marks=marks))

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

    def _state(self) -> "State":
        return state_of(self.folder) or State(self.objects.uri, None, None, {})

    def _remember(self, state: "State") -> None:
        replace_text(self.folder / STATE, json.dumps(state._asdict()))


class State(NamedTuple):
    """What a copy knows of itself.

    Attributes:
        uri: that it is a copy of.
        taken: the lease that a process of this machine has taken last.
        content: the lease under which its objects were written last, as far as is known here.
        marks: what was equal, and when.

    """

    uri: str
    taken: str | None
    content: str | None
    marks: dict[str, Mark]


def state_of(folder: Path) -> State | None:
    """Return the state of a working copy; None of any other folder."""
    try:
        found = json.loads((folder / STATE).read_text("utf-8"))
        marks = {name: Mark(Info(*one[0]), Info(*one[1])) for name, one in found["marks"].items()}
        return State(found["uri"], found["taken"], found["content"], marks)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _announcing_first(names: Iterable[str]) -> Iterator[str]:
    for group in reversed(list(in_order(names))):
        yield from group
