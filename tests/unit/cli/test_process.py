"""A verb as the system sees it, tried on processes of a few lines."""

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

import metarec_ray

SLEEPER = """
import sys, time
from metarec_ray.cli.process import as_process

@as_process
def main():
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("put away", flush=True)
        return 130
    return 0

sys.exit(main())
"""


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Let children hear what whoever started the tests may ignore, as nohup and `&` do."""
    asked = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in asked.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ended(
    program: str, numbers: Sequence[int], *before: str, option: str = "-c"
) -> tuple[int, str, str]:
    """Run a program, send it signals once it has begun; return exit code and output."""
    with subprocess.Popen(
        [*before, sys.executable, option, program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        for number in numbers:
            process.send_signal(number)
        out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_puts_away_what_ctrl_c_does_and_says_so_in_a_line(number: signal.Signals) -> None:
    said = f"metarec: ended by {number.name}\n"
    assert ended(SLEEPER, [number]) == (143, "put away\n", said)


def test_the_exit_code_is_ours_wherever_the_signal_finds_the_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = SLEEPER.replace("time.sleep(60)", "exec('time.sleep(60)', {'time': time})")
    (tmp_path / "sleeper.py").write_text(program)
    root = str(Path(metarec_ray.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), root]))
    # Only `python -m` is affected.
    assert ended("sleeper", [signal.SIGTERM], option="-m")[0] == 143


def test_ctrl_c_is_still_ctrl_c() -> None:
    assert ended(SLEEPER, [signal.SIGINT]) == (130, "put away\n", "")


def test_of_several_signals_the_first_counts() -> None:
    program = SLEEPER.replace('print("put away"', 'time.sleep(0.2); print("put away"')
    code, out, err = ended(program, [signal.SIGHUP, signal.SIGTERM, signal.SIGHUP])
    assert (code, out) == (143, "put away\n")
    assert err.count("\n") == 1


def test_a_job_in_the_background_whose_ctrl_c_is_ignored_is_ended_too() -> None:
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + SLEEPER
    assert ended(ignoring, [signal.SIGTERM])[:2] == (143, "put away\n")


def test_under_nohup_a_terminal_may_close() -> None:
    program = SLEEPER.replace("sleep(60)", "sleep(0.5)")
    code, out, _ = ended(program, [signal.SIGHUP], "nohup")
    assert (code, out) == (0, "")


def test_an_error_on_the_way_out_is_not_told_as_a_second_failure() -> None:
    program = SLEEPER.replace("return 130", "raise RuntimeError('while shutting down')")
    code, _, err = ended(program, [signal.SIGTERM])
    assert (code, err) == (143, "metarec: ended by SIGTERM\n")


def run(body: str, tail: str = "") -> subprocess.CompletedProcess[str]:
    """Run a verb with this body in a pipeline and return the pipeline's output and exit codes."""
    program = f"""
import json, sys, threading
from metarec_ray.cli.process import as_process, reader_is_gone

@as_process
def main():
{textwrap.indent(body, "    ")}
    return 0

sys.exit(main())
"""
    line = f'{shlex.join([sys.executable, "-c", program])} {tail}; echo "${{PIPESTATUS[@]}}" >&2'
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "body", ["print(1)", "for n in range(20000): print(n)", "print('x' * 100000, flush=True)"]
)
def test_a_reader_that_has_seen_enough_is_no_failure(body: str) -> None:
    # The reader has gone before the first line is written.
    done = run(f"import time; time.sleep(0.3)\n{body}", "| true")
    assert done.stderr.split() == ["0", "0"]


def test_a_verb_can_ask_whether_somebody_reads() -> None:
    body = "print('x' * 10**6, flush=True)\nprint(reader_is_gone(), file=sys.stderr)"
    assert run(body, "| true").stderr.split() == ["True", "0", "0"]
    assert run(body, "| cat").stderr.split() == ["False", "0", "0"]


def test_a_long_result_through_a_slow_pipe_is_whole() -> None:
    body = "print(json.dumps(list(range(200000))))"
    done = run(body, "| (sleep 0.5; cat)")
    assert json.loads(done.stdout)[-1] == 199999


def test_a_full_disk_behind_stdout_is_a_sentence() -> None:
    line = [sys.executable, "-m", "metarec_ray", "--version"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "metarec: stdout must be writable, got [Errno 28] No space left on device\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_a_stdout_that_is_closed_is_nobodys_business() -> None:
    assert run("print(1)", ">&-").stderr == "0\n"


def test_a_title_that_the_encoding_has_not_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert run("print('caf\\u00e9')").stdout == "caf\\xe9\n"


def test_what_a_thread_of_a_library_says_is_no_result() -> None:
    body = """
thread = threading.Thread(target=lambda: print("a warning"))
thread.start(); thread.join()
print("a result")
"""
    done = run(body)
    assert done.stdout == "a result\n"
    assert done.stderr.startswith("a warning\n")


def test_a_run_goes_on_when_nobody_reads_its_progress() -> None:
    body = """
from metarec_ray.cli.arguments import say
import time; time.sleep(0.3)
for _ in range(3): say("x" * 10**5)
open(1, "w", closefd=False).write("done")
"""
    assert run(body, "2> >(true)").stdout == "done"


HANGING = """
import os, signal, subprocess, sys, time
from metarec_ray.cli import process
process.PATIENCE_S = 0.3

@process.as_process
def main():
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        time.sleep(60)
    return 0

sys.exit(main())
"""


def test_what_hangs_on_the_way_out_is_ended_with_its_children() -> None:
    line = [sys.executable, "-c", HANGING]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (143, "metarec: ended by SIGTERM\n")
    # A killed process is there until the kernel comes round to it.
    until = time.monotonic() + 10
    while _runs(int(done.stdout)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _runs(int(done.stdout))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != "zombie"
    except psutil.NoSuchProcess:
        return False


def test_with_a_closed_stderr_nothing_but_results_is_on_stdout() -> None:
    line = f"{sys.executable} -m metarec_ray init nope.csv 2>&-"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
