"""Latency of a rank request, closed loop, with HAProxy and without: writes one result file.

    python -m benchmarks.bench_serve --items 20000 --requests 2000

Knows the command line and HTTP; the client is a plain one on the same machine, so that its own time
(0.1 to 0.2 ms) is in every figure.
"""

import argparse
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import psutil

from tests.integration.films import write_films

KEY = "benchmark-key-0123456789"
RESULTS = Path(__file__).parent / "results"
SUPPORT = 10


class Outcome(NamedTuple):
    """Milliseconds of the answered requests, how many were refused, and seconds in all."""

    latencies_ms: list[float]
    refused: int
    seconds: float

    def quantile(self, q: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(len(ordered) * q), len(ordered) - 1)]


def main() -> None:
    """Measure both fronts and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--requests", type=int, default=2000)
    options = parser.parse_args()
    rows: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_films(Path(folder) / "films", items=options.items, dim=options.dim)
        for haproxy in (True, False):
            with endpoint(checkpoint, haproxy=haproxy) as port:
                load(port, 200, 1)
                for connections in (1, 4):
                    outcome = load(port, options.requests, connections)
                    rows.append(line(outcome, haproxy=haproxy, connections=connections))
                    print(rows[-1])
    write(options, rows)


@contextmanager
def endpoint(checkpoint: Path, *, haproxy: bool) -> Iterator[int]:
    """Run `metarec serve` on a free port for the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "metarec_ray", "serve", str(checkpoint), "--port", str(port)]
    command += ["--set", f"serve.haproxy={str(haproxy).lower()}"]
    environment = os.environ | {"METAREC_API_KEY": KEY}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit("the endpoint did not start")
        try:
            yield port
        finally:
            process.send_signal(signal.SIGTERM)


def load(port: int, requests: int, connections: int) -> Outcome:
    """Ask `requests` times over so many connections, each asking again when it is answered."""
    support = [{"item_id": f"f{row}"} for row in range(SUPPORT)]
    body = json.dumps({"support": support, "k": 10})
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    latencies: list[float] = []
    refused: list[int] = []

    def ask() -> None:
        connection = HTTPConnection("127.0.0.1", port)
        for _ in range(requests // connections):
            started = time.perf_counter()
            connection.request("POST", "/v1/models/films/rank", body, headers)
            response = connection.getresponse()
            response.read()
            if response.status == 200:
                latencies.append((time.perf_counter() - started) * 1e3)
            else:
                refused.append(response.status)
        connection.close()

    threads = [Thread(target=ask) for _ in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Outcome(latencies, len(refused), time.perf_counter() - started)


def line(outcome: Outcome, *, haproxy: bool, connections: int) -> str:
    """Return a row of the result table."""
    cells = ["HAProxy" if haproxy else "Serve's proxy", connections, len(outcome.latencies_ms)]
    cells += [f"{outcome.quantile(q):.2f}" for q in (0.5, 0.9, 0.99)]
    cells += [outcome.refused, f"{len(outcome.latencies_ms) / outcome.seconds:.0f}"]
    return f"| {' | '.join(map(str, cells))} |"


def write(options: argparse.Namespace, rows: list[str]) -> None:
    """Write the table with everything needed to run it again."""
    cores, today = psutil.cpu_count(), datetime.now(UTC).date()
    packages = ", ".join(f"{name} {version(name)}" for name in ("ray", "torch", "fastapi"))
    flags = f"--items {options.items} --dim {options.dim} --requests {options.requests}"
    lines = [
        f"# Latency of a rank request, {today}",
        "",
        f"`python -m benchmarks.bench_serve {flags}`; one run. {cores} cores "
        f"({platform.machine()}), load average {os.getloadavg()[0]:.1f} at the end; {packages}, "
        f"Python {platform.python_version()}.",
        f"Bayesian head, untrained, {options.items} items x {options.dim}; {SUPPORT} support "
        "events, top 10 of the catalogue; 1 replica; client on the same machine, closed loop.",
        "",
        "| front | connections | answered | p50 ms | p90 ms | p99 ms | refused (503) | answers/s |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"serve_{cores}core_{today}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
