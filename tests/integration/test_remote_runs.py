"""Runs in an object store: an S3 server on this machine that fails, is late, and goes away.

`make test-extras` installs it.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyarrow import fs

from metarec_ray.errors import MachineError
from metarec_ray.storage.working_copy import WorkingCopy

moto = pytest.importorskip("moto.server", reason="needs the package moto[server]: make test-extras")
serving = pytest.importorskip("werkzeug.serving")

Answer = Callable[..., Iterable[bytes]]


class Server:
    """S3 whose `trouble` sees each request first, and may answer itself.

    Attributes:
        trouble: gets the number of the request and what is asked; returns an HTTP status to answer
            with, or None to let the request through.

    """

    def __init__(self) -> None:
        self.app = moto.DomainDispatcherApplication(moto.create_backend_app)
        self.trouble: Callable[[int, dict[str, Any]], str | None] = lambda number, asked: None
        self.count = self.refused = 0
        self.http = serving.make_server("127.0.0.1", 0, self, threaded=True)
        self.http.RequestHandlerClass.log = lambda *_: None
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.count += 1
        status = self.trouble(self.count, environ)
        if status is not None:
            self.refused += 1
            start(status, [("Content-Length", "0")])
            return [b""]
        return self.app(environ, start)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("METAREC_CACHE", raising=False)
    found = Server()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": found.address,
        "NO_PROXY": "127.0.0.1",
        "METAREC_HOME": str(tmp_path / "home"),
    }.items():
        monkeypatch.setenv(name, value)
    yield found
    found.http.shutdown()
    found.http.server_close()


@pytest.fixture
def bucket(server: Server, tmp_path: Path) -> str:
    """A bucket of its own: Arrow keeps a client for each, with the address that it was made for."""
    name = f"bucket-{time.monotonic_ns()}"
    fs.S3FileSystem(
        endpoint_override=server.address, region="us-east-1", allow_bucket_creation=True
    ).create_dir(name)
    return f"s3://{name}"


def every(n: int) -> Callable[[int, dict[str, Any]], str | None]:
    return lambda number, asked: "503 Slow Down" if number % n == 0 else None


def late(number: int, asked: dict[str, Any]) -> None:
    time.sleep(0.3)


def cut(number: int, asked: dict[str, Any]) -> str | None:
    """Go away in the middle of every fifth write, once part of it has been read."""
    if asked["REQUEST_METHOD"] == "PUT" and number % 5 == 0:
        asked["wsgi.input"].read(10)
        asked["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return "500 Cut"
    return None


@pytest.mark.timeout(120)
@pytest.mark.parametrize("trouble", [every(3), late, cut], ids=["failing", "late", "cut"])
def test_a_run_is_whole_at_the_end_whatever_the_server_does(
    server: Server, bucket: str, trouble: Any
) -> None:
    copy = WorkingCopy(f"{bucket}/runs/a b")
    copy.take()
    content = {f"checkpoints/step-{n}/model": os.urandom(100_000) for n in range(6)}
    for name, data in content.items():
        path = copy.folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    server.trouble = trouble
    for _ in range(20):
        try:
            copy.keep()
            break
        except MachineError:
            continue
    server.trouble = lambda number, asked: None
    assert server.refused or trouble is late
    assert set(copy.objects.list()) - {".writer"} == set(content)
    assert all(copy.objects.read(name) == data for name, data in content.items())


def test_a_server_that_has_gone_is_one_sentence(server: Server, bucket: str) -> None:
    copy = WorkingCopy(f"{bucket}/run")
    copy.objects.attempts = 1
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(MachineError, match=rf"must answer, {bucket}/run does not: ") as error:
        copy.take()
    assert "\n" not in str(error.value)


def metarec(work: Path, *words: str, home: str = "home") -> "subprocess.Popen[str]":
    """Begin a command line as a user does; another `home` is another machine."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-m", "metarec_ray", *words],
        cwd=work,
        env=clean | {"METAREC_HOME": str(work / home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def said(work: Path, *words: str, home: str = "home") -> str:
    process = metarec(work, *words, home=home)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    return out


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_that_is_killed_goes_on_on_another_machine(
    server: Server, bucket: str, tmp_path: Path
) -> None:
    """Killed at once, and begun again where nothing is left of it: the parameters are the same."""
    config = tmp_path / "run.yaml"
    tree = {
        "run": {"dir": f"{bucket}/runs/a"},
        "data": {"path": "synthetic", "synthetic": {"users": 300, "items": 60}},
        "train": {"steps": 60, "checkpoint_every": 10, "lanes": 2, "lane_tasks": 8},
        "evaluate": {"force": True},
    }
    config.write_text(yaml.safe_dump(tree))
    first = metarec(tmp_path, "train", str(config), home="first")
    system = fs.S3FileSystem(endpoint_override=server.address, region="us-east-1")
    mark = f"{bucket.removeprefix('s3://')}/runs/a/checkpoints/step-00000010/COMMITTED"
    deadline = time.monotonic() + 240
    while system.get_file_info(mark).type != fs.FileType.File:
        assert time.monotonic() < deadline
        assert first.poll() is None, first.communicate()
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    refused = metarec(tmp_path, "train", str(config), home="second")
    told = refused.communicate(timeout=60)[1]
    assert refused.returncode == 2
    assert re.search(
        r"^metarec: a run is written by one process at a time, .* if it was killed", told
    )
    time.sleep(60)  # as the sentence says
    second = json.loads(said(tmp_path, "train", str(config), "--json", home="second"))
    assert second["checkpoint"] == f"{bucket}/runs/a/checkpoints/step-00000060"
    local = ["--set", f"run.dir={tmp_path / 'local'}"]
    alone = json.loads(said(tmp_path, "train", str(config), *local, "--json"))
    assert second["parameters_sha256"] == alone["parameters_sha256"]
    status = json.loads(said(tmp_path, "status", f"{bucket}/runs/a", "--json", home="third"))
    assert (status["state"], status["step"]) == ("finished", 60)
    said(tmp_path, "evaluate", f"{bucket}/runs/a", "--rivals-only", home="third")
