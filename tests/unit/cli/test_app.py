"""The command line: what it prints where, and which exit code an outcome has."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import metarec_ray
from metarec_ray import __version__
from metarec_ray.cli.app import app, main
from metarec_ray.cli.submitting import _heard_twice
from metarec_ray.errors import ConfigError, RunFailed

VERBS = [
    *(
        "quickstart",
        "init",
        "data",
        "prepare",
        "train",
        "distil",
        "tune",
        "evaluate",
        "bench",
        "report",
        "config",
    ),
    *("serve", "rank", "submit", "jobs", "cluster", "doctor"),
]


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text("train: {steps: 7}\n")
    return path


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [verb for verb in VERBS if f" {verb} " not in shown] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"metarec {verb}" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_config_prints_an_experiment_that_config_reads_back(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", str(experiment)]) == 0
    whole = capsys.readouterr().out
    again = tmp_path / "again.yaml"
    again.write_text(whole)
    assert main(["config", str(again)]) == 0
    assert capsys.readouterr().out == whole
    assert "steps: 7" in whole


def test_an_override_wins_over_the_file(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["config", str(experiment), "--set", "train.steps=9", "--set", "run.seed=4", "--json"]
    assert main(line) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["train"]["steps"], shown["run"]["seed"]) == (9, 4)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["train", "EXPERIMENT", "--set", "train.stepz=3"], "train.stepz is not a known key"),
        (
            ["train", "EXPERIMENT", "--set", "train.outer_lr=-1"],
            "train.outer_lr must be > 0, got -1",
        ),
        (["train", "EXPERIMENT", "--set", "algorithm.name=nope"], 'must be one of .* got "nope"'),
        (["train", "EXPERIMENT", "--set", "steps"], "an override must be key=value, got 'steps'"),
        (["prepare", "nowhere.yaml"], "a configuration must be a readable file, got nowhere.yaml"),
    ],
)
def test_a_wrong_input_is_one_sentence_on_stderr_and_exit_2(
    line: list[str], sentence: str, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(experiment) if word == "EXPERIMENT" else word for word in line]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("metarec: ")
    assert shown.err.count("\n") == 1
    assert re.search(sentence, shown.err)


def test_a_missing_argument_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert "Missing argument" in capsys.readouterr().err


class _WorkersError(ConfigError):
    """As Ray hands on an error of a worker: the message is the worker's traceback."""

    cause = ConfigError("train.steps must be > 0, got 0")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RunFailed("training must reach step 10, it reached 3"), 1, "training must reach step 10"),
        (ConfigError("a rule\nover two lines"), 2, "metarec: a rule over two lines\n"),
        (
            _WorkersError("ray::worker() (pid=1)\nTraceback ..."),
            2,
            "metarec: train.steps must be > 0",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a"),
            2,
            "metarec: files of a run must be writable, got [Errno 28] No space left on device: "
            "'runs/a'\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_of_a_verb_becomes_an_exit_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @app.command("broken", hidden=True)
    def _broken() -> None:
        raise error

    try:
        assert main(["broken"]) == code
    finally:
        app.registered_commands.pop()
    assert said in capsys.readouterr().err


def test_the_verb_does_not_import_ray_before_the_token_mode_is_set() -> None:
    code = (
        "import sys, metarec_ray.cli.app as app; app.main(['--help']); "
        "import os; sys.exit('ray' in sys.modules or os.environ['RAY_AUTH_MODE'] != 'token')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_a_module_in_the_working_folder_is_not_taken_for_a_package(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (experiment.parent / "torch.py").write_text("raise SystemExit('not torch')\n")
    monkeypatch.setenv("PYTHONPATH", str(Path(metarec_ray.__file__).parents[1]))
    line = [sys.executable, "-m", "metarec_ray", "config", str(experiment)]
    done = subprocess.run(line, cwd=experiment.parent, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_ctrl_c_is_heard_again_where_its_exception_was_lost() -> None:
    before = signal.getsignal(signal.SIGINT)
    with _heard_twice() as check:
        check()
        with suppress(KeyboardInterrupt):  # as Python does in a finalizer
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before
