"""`metarec cluster up` and `down` on this machine: who gets in, and what is left."""

import json
import os
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from metarec_ray.engine.cluster import local_cluster
from metarec_ray.engine.cluster.ports import listening

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def metarec(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does: own home, no variable of Ray."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-m", "metarec_ray", *words],
        env=clean | {"METAREC_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    done = metarec(folder, "cluster", "up", "--num-cpus", "2", "--object-store-mb", "100")
    assert done.returncode == 0, done.stderr
    yield folder
    metarec(folder, "cluster", "down")


@pytest.fixture(scope="module")
def running(home: Path) -> local_cluster.Cluster:
    found = local_cluster.current({"METAREC_HOME": str(home)})
    assert found is not None
    return found


def _status(url: str, token: str | None, body: dict[str, str] | None = None) -> int:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode() if body else None
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data, headers), timeout=20
        ) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize(
    "path", ["/api/version", "/api/jobs/", "/api/serve/applications/", "/nodes"]
)
def test_nothing_is_told_without_the_token(path: str, running: local_cluster.Cluster) -> None:
    assert _status(running.address + path, None) == 401
    assert _status(running.address + path, "0" * 64) in (401, 403)


def test_nothing_runs_without_the_token(running: local_cluster.Cluster, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    job = {"entrypoint": f"touch {planted}"}
    assert _status(f"{running.address}/api/jobs/", None, job) == 401
    assert not planted.exists()


def test_the_token_opens_and_is_nobody_elses_to_read(running: local_cluster.Cluster) -> None:
    assert running.token_path is not None
    assert stat.S_IMODE(running.token_path.stat().st_mode) == 0o600
    token = running.token_path.read_text()
    assert _status(f"{running.address}/api/version", token) == 200
    lines = [" ".join(process.cmdline()) for process in local_cluster.processes(running)]
    assert len(lines) > 5
    assert [line for line in lines if token in line] == []


def test_the_dashboard_listens_on_the_loopback_interface_only(
    running: local_cluster.Cluster,
) -> None:
    number = int(running.address.rsplit(":", 1)[1])
    assert {port.address for port in listening() if port.port == number} == {"127.0.0.1"}


def test_a_second_cluster_is_refused_in_one_sentence(
    home: Path, running: local_cluster.Cluster
) -> None:
    done = metarec(home, "cluster", "up")
    assert done.returncode == 2
    sentence = f"one local cluster at a time, one is up at {running.address}: metarec cluster down"
    assert done.stderr == f"metarec: {sentence}\n"


@pytest.mark.usefixtures("ray_session")
def test_down_ends_every_process_of_the_cluster_and_no_other_ray(
    home: Path, running: local_cluster.Cluster
) -> None:
    import ray

    done = metarec(home, "cluster", "down")
    assert (done.returncode, done.stdout) == (0, f"ended the cluster at {running.address}\n")
    assert local_cluster.processes(running) == []
    assert not running.folder.exists()
    assert local_cluster.current({"METAREC_HOME": str(home)}) is None
    assert ray.cluster_resources()["CPU"] == 4
    assert metarec(home, "cluster", "down").stdout == "no local cluster was up\n"
