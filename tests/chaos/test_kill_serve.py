"""`metarec serve` is killed: what it started ends too, and the next one finds what is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from metarec_ray.engine.cluster import leftovers
from metarec_ray.engine.cluster.ports import free
from metarec_ray.engine.serve.ports import require_free
from tests.integration.films import write_films

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


def start(folder: Path, port: int) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "metarec_ray", "serve", str(write_films(folder / "films"))]
    server = subprocess.Popen(
        [*line, "--port", str(port)],
        env=os.environ | {"METAREC_HOME": str(folder / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    told = server.stdout.readline()
    assert told.startswith("http"), server.communicate()
    return server


def test_haproxy_ends_with_a_killed_serve_and_its_folder_with_the_next(tmp_path: Path) -> None:
    (port,) = free(1)
    server = start(tmp_path, port)
    family = psutil.Process(server.pid).children(recursive=True)
    assert "haproxy" in {process.name() for process in family}
    server.kill()
    server.communicate()
    deadline = time.monotonic() + 60
    while any(one.is_running() and one.name() == "haproxy" for one in family):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    require_free("127.0.0.1", port)
    (left,) = [one for one in leftovers.find() if one.owner == server.pid]
    assert left.processes == []

    again = start(tmp_path / "again", port)
    assert not left.folder.exists()
    again.send_signal(signal.SIGTERM)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 143
    assert f"ending {left.folder}" in said
    assert said.endswith("metarec: ended by SIGTERM\n")
