"""Objects through Arrow: patience with what passes, none with what does not."""

from pathlib import Path

import pytest
from pyarrow import fs

from metarec_ray.data.files import file_systems
from metarec_ray.errors import MachineError
from metarec_ray.storage.objects import ATTEMPTS, Objects


class Flaky(fs.FileSystemHandler):
    """A local folder as a bucket, whose next calls fail."""

    def __init__(self, root: Path):
        self.root, self.failing, self.why = root, 0, "AWS Error NETWORK_CONNECTION"
        self.local = fs.LocalFileSystem()

    def _path(self, path: str) -> str:
        if self.failing:
            self.failing -= 1
            raise OSError(self.why)
        return str(self.root / path)

    def get_type_name(self) -> str:
        return "flaky"

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        found = self.local.get_file_info([self._path(path) for path in paths])
        return [
            fs.FileInfo(path, info.type, size=info.size, mtime_ns=info.mtime_ns)
            for path, info in zip(paths, found, strict=True)
        ]

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        inside = fs.FileSelector(
            self._path(selector.base_dir), allow_not_found=True, recursive=True
        )
        begin = len(str(self.root)) + 1
        return [
            fs.FileInfo(one.path[begin:], one.type, size=one.size, mtime_ns=one.mtime_ns)
            for one in self.local.get_file_info(inside)
        ]

    def open_input_stream(self, path: str) -> object:
        return self.local.open_input_stream(self._path(path), compression=None)

    def open_output_stream(self, path: str, metadata: object) -> object:
        place = self._path(path)
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        return self.local.open_output_stream(place, compression=None)

    def delete_file(self, path: str) -> None:
        self.local.delete_file(self._path(path))

    def _refused(self, *_: object) -> None:
        raise NotImplementedError

    normalize_path = _refused
    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refused
    move = copy_file = open_input_file = open_append_stream = _refused


@pytest.fixture
def flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    handler = Flaky(tmp_path / "store")
    system = fs.PyFileSystem(handler)
    monkeypatch.setattr(file_systems, "at", lambda uri, options: (system, "bucket/run/"))
    return handler


def objects(pauses: list[float]) -> Objects:
    return Objects("s3://bucket/run", sleep=pauses.append)


def test_what_is_written_is_listed_read_and_removed(flaky: Flaky, tmp_path: Path) -> None:
    found = objects([])
    assert found.list() == {}
    assert found.read("a/b.gz") is None
    assert found.info("a/b.gz") is None
    assert not found.download("a/b.gz", tmp_path / "b")
    found.write("a/b.gz", b"plain")
    (tmp_path / "c").write_bytes(b"file")
    found.upload("c", tmp_path / "c")
    assert {name: info.size for name, info in found.list().items()} == {"a/b.gz": 5, "c": 4}
    assert found.read("a/b.gz") == b"plain"
    assert found.download("c", tmp_path / "new" / "c")
    assert (tmp_path / "new" / "c").read_bytes() == b"file"
    assert found.now() > 0
    for _ in range(2):
        found.remove("c")
    assert list(found.list()) == ["a/b.gz"]


def test_what_passes_is_tried_again_and_longer(flaky: Flaky) -> None:
    pauses: list[float] = []
    found = objects(pauses)
    flaky.failing = ATTEMPTS - 1
    found.write("a", b"1")
    assert pauses == [0.5, 1.0, 2.0]
    assert found.read("a") == b"1"


@pytest.mark.parametrize(("why", "tries"), [("TIMEOUT", ATTEMPTS), ("ACCESS_DENIED", 1)])
def test_what_does_not_pass_is_one_sentence(flaky: Flaky, why: str, tries: int) -> None:
    pauses: list[float] = []
    flaky.failing, flaky.why = 100, f"When reading\nAWS Error {why}"
    with pytest.raises(MachineError, match=rf"answer, s3://bucket/run does not: When .* {why}"):
        objects(pauses).list()
    assert len(pauses) == tries - 1


def test_a_file_that_has_gone_is_no_matter_of_the_store(flaky: Flaky, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        objects([]).upload("a", tmp_path / "gone")
