"""The folder and the processes of an endpoint whose owner is dead."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metarec_ray.engine.cluster import leftovers

# A process that holds a port, with a file of the folder on its command line.
SERVER = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "metarec-0123456789"
    path.mkdir()
    return path


@pytest.fixture
def server(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    line = [sys.executable, "-c", SERVER, str(folder / "haproxy.cfg")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.kill()


def _dead(folder: Path, **changed: object) -> None:
    """Name an owner that had the id of this process before it."""
    leftovers.own(folder)
    identity = json.loads((folder / leftovers.OWNER).read_text()) | {"started": 1} | changed
    (folder / leftovers.OWNER).write_text(json.dumps(identity))


def test_what_a_living_process_owns_is_nothing_left(folder: Path) -> None:
    leftovers.own(folder)
    assert leftovers.find(folder.parent) == []


def test_what_a_dead_one_owned_is_named_with_process_and_port_and_ended(
    folder: Path, server: tuple[subprocess.Popen[str], int]
) -> None:
    process, port = server
    _dead(folder)
    (found,) = leftovers.find(folder.parent)
    assert f"({process.pid}) on port {port}" in found.sentence()
    assert f"process {os.getpid()}" in found.sentence()
    leftovers.end(found)
    assert process.poll() is not None
    assert not folder.exists()


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": "x", "started": 1}'])
def test_a_file_of_another_form_is_left_alone(folder: Path, text: str) -> None:
    (folder / leftovers.OWNER).write_text(text)
    assert leftovers.find(folder.parent) == []


def test_an_owner_in_another_container_may_live(folder: Path) -> None:
    _dead(folder, space="pid:[1]")
    assert leftovers.find(folder.parent) == []


def test_a_process_of_another_folder_is_left_alone(
    folder: Path, server: tuple[subprocess.Popen[str], int]
) -> None:
    other = folder.parent / "metarec-01234567"  # the other's name begins with this one's
    other.mkdir()
    _dead(other)
    (found,) = leftovers.find(folder.parent)
    assert found.processes == []
    assert server[0].poll() is None
