import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from metarec_ray.errors import RequestError
from metarec_ray.service.client import rank, render
from metarec_ray.service.settings import choose_run_dir
from tests.integration.films import write_films

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

KEY = "correct-horse-battery"
# Ray Serve reads its variables when it is imported, so an endpoint is a process of its own.
PROGRAM = """
import os, sys
from pathlib import Path
from metarec_ray.service.settings import serve_environment
checkpoint, run_dir, haproxy, port, stats_port, metrics_port = sys.argv[1:]
os.environ |= serve_environment(
    haproxy=haproxy == "1",
    run_dir=Path(run_dir),
    stats_port=int(stats_port),
    metrics_port=int(metrics_port),
)
from metarec_ray.engine.serve.driver import serve
serve(
    Path(checkpoint),
    port=int(port),
    haproxy=haproxy == "1",
    api_key=os.environ["METAREC_API_KEY"],
    on_ready=lambda url: print(url, flush=True),
)
"""


class Endpoint(NamedTuple):
    """A running endpoint; `ports` are those of the front end, the statistics and the metrics."""

    url: str
    ports: list[int]
    run_dir: Path
    family: list[psutil.Process]

    def ask(self, method: str, path: str, body: bytes = b"", key: str = KEY) -> "Answer":
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection = HTTPConnection("127.0.0.1", self.ports[0], timeout=20)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers.get_content_type(), response.read())
        finally:
            connection.close()


class Answer(NamedTuple):
    """What came back."""

    status: int
    media_type: str
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.body)


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def running(folder: Path, *, haproxy: bool) -> Iterator[Endpoint]:
    """Run an endpoint until the block ends; it must then leave no process and no file behind."""
    run_dir, ports = choose_run_dir(), free_ports(3)
    arguments = [write_films(folder / "films"), run_dir, int(haproxy), *ports]
    environment = os.environ | {"METAREC_API_KEY": KEY, "METAREC_HOME": str(folder / "home")}
    with (
        (folder / "stderr").open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, (folder / "stderr").read_text()
        family = psutil.Process(process.pid).children(recursive=True)
        try:
            yield Endpoint(url, ports, run_dir, family)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (folder / "stderr").read_text()
    gone, alive = psutil.wait_procs(family, timeout=20)
    assert len(gone) > 3
    assert alive == []
    assert not run_dir.exists()


def listening(family: list[psutil.Process]) -> dict[int, str]:
    """Return address by port of every TCP socket that the processes listen on."""
    found: dict[int, str] = {}
    for process in family:
        with suppress(psutil.NoSuchProcess):  # one that has ended meanwhile listens no more
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr:
                    found[connection.laddr.port] = connection.laddr.ip
    return found


def haproxies_of(family: list[psutil.Process]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in family:
        with suppress(psutil.NoSuchProcess):  # workers of Ray come and go
            found += [one for one in process.children(recursive=True) if is_haproxy(one)]
    return found


def is_haproxy(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.name() == "haproxy"
    return False


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with running(tmp_path_factory.mktemp("serve"), haproxy=True) as endpoint:
        yield endpoint


def test_a_question_is_answered_with_titles(endpoint: Endpoint) -> None:
    answer = rank(f"http://127.0.0.1:{endpoint.ports[0]}", "f3:1,f7", k=3, api_key=KEY)
    assert answer.model == "films"
    assert answer.adaptation.support_used == 2
    assert not {"f3", "f7"} & {item.id for item in answer.items}
    assert f"1  {answer.items[0].title}" in render(answer)
    again = rank(endpoint.url, "f3:1,f7", k=3, api_key=KEY)
    assert again.items == answer.items


def test_probes_are_open_and_the_rest_is_not(endpoint: Endpoint) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/films/ready"):
        assert endpoint.ask("GET", path, key="").status == 200
    refused = endpoint.ask("GET", "/v1/models", key="wrong")
    assert (refused.status, refused.media_type) == (401, "application/problem+json")
    with pytest.raises(RequestError, match="set METAREC_API_KEY"):
        rank(endpoint.url, "f3", api_key="wrong")


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b" " * 2_000_000, 413, "payload-too-large"),
        (b'{"support": [{"item_id": "f1", "value": NaN}]}', 422, "invalid-request"),
        (b'{"support": [{"item_id": "nowhere"}]}', 422, "invalid-request"),
        (b"{", 400, "malformed-json"),
    ],
)
def test_a_bad_body_is_a_problem_through_the_proxy_too(
    endpoint: Endpoint, body: bytes, status: int, slug: str
) -> None:
    answer = endpoint.ask("POST", "/v1/models/films/rank", body)
    assert (answer.status, answer.media_type) == (status, "application/problem+json")
    assert answer.content["type"].endswith(f"/{slug}")
    assert endpoint.ask("GET", "/v1/models").status == 200


def test_an_unknown_support_item_is_named_by_its_position(endpoint: Endpoint) -> None:
    with pytest.raises(RequestError, match="/support/1/item_id: names an unknown item"):
        rank(endpoint.url, "f1,nowhere", api_key=KEY)


def test_front_end_statistics_metrics_and_replicas_listen_on_loopback_only(
    endpoint: Endpoint,
) -> None:
    family = [process for process in endpoint.family if process.is_running()]
    found = listening(haproxies_of(family))
    assert found == dict.fromkeys(endpoint.ports, "127.0.0.1")
    replicas = {port: at for port, at in listening(family).items() if 30000 <= port <= 31000}
    assert set(replicas.values()) == {"127.0.0.1"}


def test_the_configuration_that_ray_rendered_is_patched(endpoint: Endpoint) -> None:
    (config,) = endpoint.run_dir.glob("*/haproxy.cfg")
    text = config.read_text()
    assert text.startswith("# patched\n")
    assert "timeout http-request 3s" in text
    assert "{ path_beg /v1/ } { be_conn(http-films) ge 6 }" in text
    assert "mode 600 level admin" in text
    assert endpoint.run_dir.stat().st_mode & 0o777 == 0o700


def test_a_slow_client_is_sent_away(endpoint: Endpoint) -> None:
    head = b"POST /v1/models/films/rank HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection(("127.0.0.1", endpoint.ports[0]), timeout=10) as slow:
        started = time.monotonic()
        slow.sendall(head + b"{")
        answer = slow.recv(4096)
    # The proxy's patience is 3 s.
    assert 2 < time.monotonic() - started < 6
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in answer


def test_without_haproxy_the_same_question_is_answered_and_nothing_else_listens(
    tmp_path: Path,
) -> None:
    with running(tmp_path, haproxy=False) as endpoint:
        assert rank(endpoint.url, "f3", k=2, api_key=KEY).adaptation.status == "adapted"
        answer = endpoint.ask("POST", "/v1/models/films/rank", b" " * 2_000_000)
        assert (answer.status, answer.media_type) == (413, "application/problem+json")
        found = listening(endpoint.family)
        assert found[endpoint.ports[0]] == "127.0.0.1"
        assert not [port for port in found if 30000 <= port <= 31000]
        assert not endpoint.run_dir.exists()
