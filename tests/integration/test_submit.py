"""A verb as a job on a local cluster: its log, its exit code, and what Ctrl-C leaves running."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

CONFIG = """
run: {dir: runs/a}
data: {buckets: 2, synthetic: {users: 200, items: 60, mean_events: 20}}
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "experiment.yaml").write_text(CONFIG)
    done = metarec(folder, "cluster", "up", "--num-cpus", "4", "--object-store-mb", "200")
    assert done.returncode == 0, done.stderr
    yield folder
    done = metarec(folder, "cluster", "down")
    assert done.returncode == 0, done.stderr


def metarec(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = _line(*words)
    return subprocess.run(
        line, cwd=folder, env=_environment(folder), capture_output=True, text=True, check=False
    )


def _line(*words: str) -> list[str]:
    return [sys.executable, "-m", "metarec_ray", *words]


def _environment(folder: Path) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return clean | {"METAREC_HOME": str(folder / "home")}


def test_a_job_that_works_is_exit_0_and_its_files_lie_where_the_line_would_put_them(
    workplace: Path,
) -> None:
    done = metarec(workplace, "submit", "prepare", "experiment.yaml", "--", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (workplace / "runs" / "a" / "store" / "manifest.json").is_file()
    assert '"tasks": ' in done.stdout


def test_a_wrong_input_is_the_verbs_sentence_and_exit_2(workplace: Path) -> None:
    done = metarec(workplace, "submit", "train", "experiment.yaml", "--set", "run.store=runs/none")
    assert done.returncode == 2
    assert re.search(r"metarec: a task store must .*runs/none", done.stdout)
    assert "Traceback" not in done.stdout


def test_an_unknown_job_is_one_sentence(workplace: Path) -> None:
    for words in (("logs", "nobody"), ("logs", "nobody", "--follow"), ("stop", "nobody")):
        done = metarec(workplace, "jobs", *words)
        assert done.returncode == 2
        said = "metarec: a job must be known to the cluster, 'nobody' is not\n"
        assert done.stderr.endswith(said)


def test_ctrl_c_leaves_the_job_running_and_says_how_to_end_it(workplace: Path) -> None:
    # Long enough to be running still when it is told to stop, on a slow machine too: it prepares
    # its store and trains.
    long = ["--set", "run.dir=runs/b", "--set", "train.steps=1000000"]
    line = _line("submit", "train", "experiment.yaml", *long)
    following = subprocess.Popen(
        line,
        cwd=workplace,
        env=_environment(workplace),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stderr is not None
    first = following.stderr.readline()
    (job,) = re.findall(r"job (\S+) at http://127\.0\.0\.1:\d+\n", first)
    following.send_signal(signal.SIGINT)
    said = following.communicate(timeout=100)[1]
    assert following.returncode == 130
    assert f"metarec jobs stop {job} --address http://127.0.0.1:" in said
    (listed,) = [one for one in listing(workplace) if one["id"] == job]
    assert (listed["verb"], listed["state"]) == ("train", "running")
    assert listed["run"] == str(workplace / "runs" / "b")
    stopped = metarec(workplace, "jobs", "stop", job)
    assert stopped.stdout.startswith(f"{job} has stopped; the same line goes on in {workplace}")
    assert job in metarec(workplace, "jobs", "list").stdout
    assert metarec(workplace, "jobs", "logs", job).returncode == 0
    after = metarec(workplace, "jobs", "logs", job, "--follow")
    assert after.returncode == 1
    assert after.stderr.endswith(f"the job must run to its end, it was stopped: {job}\n")


def listing(folder: Path) -> list[dict[str, Any]]:
    done = metarec(folder, "jobs", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["jobs"]


@pytest.mark.chaos
@pytest.mark.timeout(480)
def test_a_killed_driver_is_begun_again_and_a_supervisor_stops_its_job_first(
    workplace: Path,
) -> None:
    folder = workplace / "runs" / "c"
    sets = ("run.dir=runs/c", "train.steps=1000000", "train.checkpoint_every=5")
    options = [word for one in sets for word in ("--set", one)]
    following = subprocess.Popen(
        _line("submit", "train", "experiment.yaml", "--supervise", "--retries", "1", *options),
        cwd=workplace,
        env=_environment(workplace),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert following.stdout is not None
    (supervisor,) = re.findall(r"job (train-\w+) at ", following.stdout.readline())
    _until(lambda: any(folder.glob("checkpoints/step-*/COMMITTED")), following)
    driver = int((folder / ".writer").read_text().split()[1])
    os.kill(driver, signal.SIGKILL)
    _until(lambda: len(_events(folder)) > 2, following)
    first, second, third = _events(folder)[:3]
    assert (first["kind"], second["kind"], third["kind"]) == ("started", "resubmitted", "started")
    assert f"{supervisor}-1 is submitted again (1 of 1 without" in second["sentence"]
    assert "ended by signal 9" in second["sentence"]
    assert third["step"] >= 5
    states = {one["id"]: one["state"] for one in listing(workplace)}
    assert states[f"{supervisor}-1"] == "failed"
    assert states[f"{supervisor}-2"] == states[supervisor] == "running"
    there = metarec(workplace, "status", "runs/c", "--address", _address(workplace))
    assert there.returncode == 0, there.stderr
    assert re.search(
        r"^running, moved .* step \d+ of 1000000, .*; its job \S+: running$", there.stdout
    )
    stopped = metarec(workplace, "jobs", "stop", supervisor, "--json")
    assert stopped.returncode == 0, stopped.stderr
    ended = json.loads(stopped.stdout)["stopped"]
    assert ended[0]["id"] == f"{supervisor}-2"
    assert {one["id"]: one["state"] for one in listing(workplace)}[supervisor] != "running"
    log = following.communicate(timeout=100)[0]
    assert following.returncode == 1
    assert "train: resuming at step" in log
    assert "Traceback" not in log


def _until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not there():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)


def _address(folder: Path) -> str:
    return json.loads((folder / "home" / "cluster.json").read_text())["address"]


def _events(folder: Path) -> list[dict[str, Any]]:
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
