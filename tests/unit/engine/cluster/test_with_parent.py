"""A child whose parent is killed, without a chance to end it."""

import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from metarec_ray.engine.cluster import processes, with_parent

PARENT = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); input()"
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def child_of(command: list[str]) -> tuple[subprocess.Popen[str], psutil.Process]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    return parent, psutil.Process(int(parent.stdout.readline()))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_does_not_outlive_a_killed_parent(number: signal.Signals) -> None:
    parent, child = child_of(with_parent.command(number, SLEEP))
    try:
        while child.cmdline() != SLEEP:  # until it has become the program
            time.sleep(0.01)
        since = processes.started(child.pid)
        assert since is not None
        parent.kill()
        while processes.root(child.pid, since) is not None:
            time.sleep(0.01)
    finally:
        parent.communicate()
        with suppress(psutil.NoSuchProcess):
            child.kill()


def test_its_exit_code_is_the_programs() -> None:
    line = with_parent.command(signal.SIGKILL, [sys.executable, "-c", "raise SystemExit(7)"])
    assert subprocess.run(line, check=False).returncode == 7
