"""Two processes that want to write the same run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metarec_ray.engine.cluster.one_writer import NAME, one_writer
from metarec_ray.errors import ConfigError

HOLDER = """
import sys
from pathlib import Path
from metarec_ray.engine.cluster.one_writer import one_writer
with one_writer(Path(sys.argv[1])):
    print("begun", flush=True)
    input()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-c", HOLDER, str(tmp_path / "runs" / "a")]
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


def test_a_second_writer_is_told_the_folder_and_the_process(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    folder = tmp_path / "runs" / "a"
    with (
        pytest.raises(ConfigError, match=rf"{folder} is by process {holder.pid} on .*: let it end"),
        one_writer(folder),
    ):
        pass
    with one_writer(tmp_path / "runs" / "b"):
        pass


def test_a_killed_writer_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    folder = tmp_path / "runs" / "a"
    assert (folder / NAME).exists()
    with one_writer(folder):
        assert str(os.getpid()) in (folder / NAME).read_text()
    assert not (folder / NAME).exists()


def test_what_was_refused_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong"), one_writer(tmp_path / "runs" / "a"):
        raise ValueError("wrong")
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_stays(tmp_path: Path) -> None:
    with one_writer(tmp_path / "runs" / "a"):
        (tmp_path / "runs" / "a" / "file").touch()
    assert [path.name for path in (tmp_path / "runs" / "a").iterdir()] == ["file"]
    with one_writer(tmp_path / "runs"):
        pass
    assert (tmp_path / "runs" / "a" / "file").exists()


def test_a_lock_file_that_its_holder_removed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metarec_ray.engine.cluster import one_writer as module

    locked = module.lock
    removals = iter([True, False])

    def late(stream: object, *, wait: bool) -> None:
        if next(removals):  # between opening and locking the holder ends
            (tmp_path / NAME).unlink()
        locked(stream, wait=wait)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(module, "lock", late)
    with one_writer(tmp_path):
        assert (tmp_path / NAME).exists()
