"""What nobody foresaw: one sentence, a report for the owner alone, and exit code 1."""

import errno
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from pydantic import BaseModel

from metarec_ray.cli import crash
from metarec_ray.cli.app import app, main
from metarec_ray.core.matrices.spd import IllConditioned

KEY = "correct-horse-battery"


@pytest.fixture(autouse=True)
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("METAREC_API_KEY", KEY)
    return tmp_path


@pytest.fixture
def verb() -> Iterator[Callable[[Callable[[], object]], None]]:
    def install(does: Callable[[], object]) -> None:
        @app.command("broken", hidden=True)
        def _broken(word: str = "") -> None:
            does()

    yield install
    app.registered_commands.pop()


class Settings(BaseModel):
    steps: int


def raises(error: BaseException) -> Callable[[], object]:
    def does() -> object:
        raise error

    return does


def overflows() -> object:
    return overflows()


@pytest.mark.parametrize(
    ("does", "sentence"),
    [
        (raises(KeyError("steps")), "got KeyError: 'steps'"),
        (raises(AssertionError()), "got AssertionError"),
        (raises(MemoryError()), "got MemoryError"),
        (overflows, "got RecursionError: maximum recursion depth"),
        (
            lambda: Settings.model_validate({"steps": "x"}),
            "got ValidationError: 1 validation error",
        ),
        (lambda: pl.DataFrame({"a": [1]}).select("b"), "got ColumnNotFoundError"),
        (raises(pl.exceptions.PanicException("index out of bounds")), "got PanicException: index"),
        (
            raises(OSError(errno.EBADF, "Bad file descriptor")),
            "got OSError: .* Bad file descriptor",
        ),
        (raises(RuntimeError("two\nlines " + "x" * 999)), r"got RuntimeError: two lines x+\.\.\. "),
        (raises(ValueError(f"key {KEY}, s3://me:pass@host")), r"key \*\*\*, s3://me:\*\*\*@host"),
    ],
)
def test_what_nobody_foresaw_is_one_sentence_with_its_report(
    verb: Callable[[Callable[[], object]], None],
    does: Callable[[], object],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    verb(does)
    line = ["broken", "--word", f"sig=abc {KEY}"]
    assert main(line) == 1
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    found = re.fullmatch(
        r"metarec: a run must not end like this, (.*) \(report: (.*)\)\n", shown.err
    )
    assert found is not None
    assert re.search(sentence, found[1] + " ")
    report = Path(found[2])
    assert report.stat().st_mode & 0o777 == 0o600
    text = report.read_text()
    assert "Traceback (most recent call last)" in text
    assert "polars: " in text
    assert "command: metarec broken --word 'sig=*** ***'" in text
    assert KEY not in text
    assert "pass@" not in text


def test_a_report_that_cannot_be_written_is_said_to_be_missing(
    verb: Callable[[Callable[[], object]], None],
    reports: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(reports / "none"))
    verb(raises(KeyError("steps")))
    assert main(["broken"]) == 1
    assert "got KeyError: 'steps' (no report could be written: " in capsys.readouterr().err


def test_a_reader_that_goes_away_is_told_nothing(
    verb: Callable[[Callable[[], object]], None], capsys: pytest.CaptureFixture[str], reports: Path
) -> None:
    verb(raises(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert main(["broken"]) == 1
    assert capsys.readouterr().err == ""
    assert list(reports.iterdir()) == []


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [("| true", 0, ""), ("> /dev/full", 2, "metarec: stdout must be writable, got ")],
)
def test_an_output_that_cannot_be_written_is_no_traceback(end: str, code: int, said: str) -> None:
    line = f"set -o pipefail; ( sleep 0.3; {sys.executable} -m metarec_ray --version ) {end}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == bool(said)


def test_of_warnings_only_those_of_this_package_are_shown_and_as_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = warnings.showwarning
        with crash.own_warnings():
            warnings.warn("a name will go", FutureWarning, stacklevel=1)
            warnings.warn("3 of 9 systems were raised", IllConditioned, stacklevel=1)
        assert warnings.showwarning is before
    assert capsys.readouterr().err == "warning: 3 of 9 systems were raised\n"


def test_an_interruption_is_left_alone() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = (
        "import sys\nfrom metarec_ray.cli.app import app, main\n"
        "@app.command()\ndef broken() -> None:\n    raise KeyboardInterrupt\n"
        "sys.exit(main(['broken']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert "Traceback" not in done.stderr
