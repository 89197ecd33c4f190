"""An object store in memory that fails when it is told to."""

from collections.abc import Callable
from pathlib import Path

from metarec_ray.errors import MachineError
from metarec_ray.storage.objects import Info, Objects


class MemoryObjects(Objects):
    """Objects of one URI; `before` is called with the name of each call, and may raise."""

    def __init__(self, uri: str = "s3://bucket/run") -> None:
        self.uri = uri
        self.held: dict[str, tuple[bytes, int]] = {}
        self.clock = 0
        self.calls: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda call, name: None

    def list(self) -> dict[str, Info]:
        self._called("list", "")
        return {name: Info(len(data), at) for name, (data, at) in self.held.items()}

    def info(self, name: str) -> Info | None:
        self._called("info", name)
        found = self.held.get(name)
        return found and Info(len(found[0]), found[1])

    def read(self, name: str) -> bytes | None:
        self._called("read", name)
        found = self.held.get(name)
        return found and found[0]

    def write(self, name: str, data: bytes) -> None:
        self._called("write", name)
        self.clock += 1_000_000_000
        self.held[name] = (data, self.clock)

    def upload(self, name: str, path: Path) -> None:
        self.write(name, path.read_bytes())

    def download(self, name: str, path: Path) -> bool:
        data = self.read(name)
        if data is None:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return True

    def remove(self, name: str) -> None:
        self._called("remove", name)
        self.held.pop(name, None)

    def now(self) -> int:
        return self.clock

    def shared(self) -> dict[str, bytes]:
        """Return what a reader sees."""
        return {name: data for name, (data, _) in self.held.items() if not name.startswith(".")}

    def _called(self, call: str, name: str) -> None:
        self.before(call, name)
        self.calls.append((call, name))


def silent(call: str, name: str) -> None:
    """Fail every call, as a store that has gone."""
    raise MachineError(f"an object store must answer, s3://bucket/run does not: {call} {name}")
