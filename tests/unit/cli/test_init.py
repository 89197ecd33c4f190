"""`metarec init`: what it writes, prints and refuses."""

import json
from pathlib import Path

import pytest

from metarec_ray.cli.app import main

ROWS = [(user, item) for user in range(12) for item in range(9) if (user + item) % 4]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    lines = [f"u{u},{i},{1 + (u * i) % 5},{1_577_836_800 + 3_600 * u + i}" for u, i in ROWS]
    Path("log.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *lines]) + "\n")
    return "log.csv"


def test_the_file_is_accepted_as_it_is(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", log]) == 0
    printed = capsys.readouterr().out
    assert "columns.entity  userId" in printed
    assert printed.endswith("written: experiment.yaml\nnext: metarec data check experiment.yaml\n")
    assert main(["data", "check", "experiment.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["kept"], found["entities"]) == (len(ROWS), len(ROWS), 12)


def test_a_file_is_overwritten_with_force_only(
    log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text("mine")
    assert main(["init", log, "--out", "mine.yaml"]) == 2
    assert "a file is not overwritten without --force, mine.yaml exists" in capsys.readouterr().err
    assert Path("mine.yaml").read_text() == "mine"
    assert main(["init", log, "--out", "mine.yaml", "--force"]) == 0
    assert Path("mine.yaml").read_text().startswith("# Guessed by `metarec init log.csv`")


def test_a_machine_gets_the_findings_as_json(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", log, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"] == "experiment.yaml"
    assert found["data"]["columns"]["item"] == "movieId"
    assert found["why"]["columns.item"] == "by its name, 9 in 81 rows"
    assert found["other_readings"]["feedback"][0][0] == "implicit"
    assert (found["to_fill"], found["unused"]) == ([], {})


def test_what_is_no_log_writes_nothing(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.txt").write_text("a word\nand two more\n")
    assert main(["init", "notes.txt"]) == 2
    assert "must have one number of fields" in capsys.readouterr().err
    assert not Path("experiment.yaml").exists()


def test_what_must_be_filled_in_is_asked_for_by_the_next_verb(
    log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Path(log).read_text().splitlines()
    Path("abc.csv").write_text("\n".join(["a,b,c,d", *lines[1:]]) + "\n")
    assert main(["init", "abc.csv"]) == 0
    assert "to fill in, it cannot be told from the file" in capsys.readouterr().out
    assert main(["data", "check", "experiment.yaml"]) == 2
    assert "data.columns.entity" in capsys.readouterr().err
