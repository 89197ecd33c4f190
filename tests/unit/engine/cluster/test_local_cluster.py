"""The parts of a local cluster that need no Ray: command line, state file, processes."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from metarec_ray.engine.cluster import access, local_cluster, processes
from metarec_ray.errors import MachineError

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"METAREC_HOME": str(tmp_path)}


def _state(environ: dict[str, str], **fields: object) -> local_cluster.Cluster:
    values = {
        "mark": "m",
        "pid": 1,
        "started": 0,
        "address": "http://127.0.0.1:1",
        "folder": Path(environ["METAREC_HOME"]),
        "token_path": None,
        "python": sys.executable,
        "num_cpus": 4,
    }
    state = local_cluster.Cluster.model_validate(values | fields)
    access.write_private(Path(environ["METAREC_HOME"], "cluster.json"), state.model_dump_json())
    return state


def test_the_head_listens_for_jobs_on_the_loopback_interface_only(tmp_path: Path) -> None:
    line = local_cluster.command("python", [1, 2, 3, 4], tmp_path, 4, 300_000_000)
    assert {"--dashboard-host=127.0.0.1", "--dashboard-port=2", "--port=1"} <= set(line)
    assert "--block" in line


def test_a_silent_node_is_given_up_within_half_a_minute_unless_the_shell_says_otherwise() -> None:
    # A period may just have begun; each check waits for its time-out, and a period for the next.
    found = local_cluster._environment({}, "mark")
    period, timeout, times = (float(found[name]) for name in local_cluster.HEALTH)
    assert (period + times * timeout + (times - 1) * period) / 1000 == 21
    own = {"RAY_health_check_timeout_ms": "60000"}
    assert local_cluster._environment(own, "mark")["RAY_health_check_timeout_ms"] == "60000"


def test_no_state_file_is_no_cluster(environ: dict[str, str]) -> None:
    assert local_cluster.current(environ) is None


def test_a_process_id_that_was_given_away_is_no_cluster(environ: dict[str, str]) -> None:
    # This process has the id, and did not start with the machine.
    _state(environ, pid=os.getpid())
    assert local_cluster.current(environ) is None


def test_a_step_of_the_clock_loses_no_cluster(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _state(environ, pid=os.getpid(), started=processes.started(os.getpid()))
    told = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: told(self) + 3.0)
    assert local_cluster.current(environ) == state


def test_a_process_is_told_by_ticks_whatever_its_name_holds(tmp_path: Path) -> None:
    script = tmp_path / "a) (b 1 2"
    script.write_text("#!/bin/sh\nread line\n")
    script.chmod(0o700)
    with subprocess.Popen([str(script)], stdin=subprocess.PIPE) as child:
        ours, its = processes.started(os.getpid()), processes.started(child.pid)
        assert ours is not None
        assert its is not None
        assert its >= ours
        child.communicate(b"")
    assert processes.started(child.pid) is None


def test_a_state_file_of_another_kind_is_named(environ: dict[str, str]) -> None:
    path = Path(environ["METAREC_HOME"], "cluster.json")
    path.write_text("{}")
    with pytest.raises(MachineError, match=f"state must be what `up` wrote, it is not: {path}"):
        local_cluster.current(environ)


def test_a_cluster_without_tokens_is_refused(environ: dict[str, str]) -> None:
    environ["RAY_AUTH_MODE"] = "disabled"
    with pytest.raises(MachineError, match="token authentication only, got RAY_AUTH_MODE=disabled"):
        local_cluster.up(4, environ, object_store_bytes=300_000_000)


def test_a_second_cluster_is_refused(environ: dict[str, str]) -> None:
    _state(environ, pid=os.getpid(), started=processes.started(os.getpid()))
    with pytest.raises(MachineError, match=r"one is up at http://127\.0\.0\.1:1: metarec cluster"):
        local_cluster.up(4, environ, object_store_bytes=300_000_000)


def test_down_without_a_cluster_does_nothing(environ: dict[str, str]) -> None:
    assert local_cluster.down(environ) is None


def test_the_end_takes_descendants_and_marked_processes_and_nobody_else() -> None:
    parent = [sys.executable, "-c", f"import subprocess; subprocess.run({SLEEP!r})"]
    head = subprocess.Popen(parent)
    marked = subprocess.Popen(SLEEP, env=os.environ | {processes.MARK: "ours"})
    other = subprocess.Popen(SLEEP, env=os.environ | {processes.MARK: "theirs"})
    try:
        root = psutil.Process(head.pid)
        while len(root.children()) < 1:
            assert head.poll() is None
        child = root.children()[0]
        assert processes.end(head.pid, processes.started(head.pid) or 0, "ours") == []
        assert not root.is_running()
        assert not child.is_running()
        assert marked.poll() is not None
        assert other.poll() is None
    finally:
        for one in (head, marked, other):
            one.kill()
            one.wait()
