"""A verb as the system sees it, tried on processes of a few lines."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import metarec_ray

SLEEPER = """
import sys, time
from metarec_ray.cli.process import ends_like_ctrl_c

@ends_like_ctrl_c
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
