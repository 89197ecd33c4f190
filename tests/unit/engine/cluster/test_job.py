"""Where a job goes, and the line that it runs; nothing is sent."""

import sys
from pathlib import Path

import pytest

from metarec_ray.engine.cluster import job as jobs
from metarec_ray.errors import MachineError


def test_a_word_of_the_line_with_spaces_stays_one_word() -> None:
    job = jobs.Job("tune", ["tune", "config.yaml", "--x", "a b; rm -rf /"], None, {}, "/runs/a")
    assert (
        job.line("/my venv/python")
        == "'/my venv/python' -m metarec_ray tune config.yaml --x 'a b; rm -rf /'"
    )


def test_without_a_cluster_the_sentence_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="none is up: metarec cluster up, or --address"):
        jobs.find_target(None, {"METAREC_HOME": str(tmp_path)})


def test_an_address_must_be_a_dashboards(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="must be http://HOST:PORT of a dashboard, got ray://x"):
        jobs.find_target("ray://x", {"METAREC_HOME": str(tmp_path)})


def test_another_cluster_gets_its_own_interpreter_and_not_our_token(tmp_path: Path) -> None:
    environ = {"METAREC_HOME": str(tmp_path)}
    target = jobs.find_target("https://ray.example.org", environ)
    assert target == jobs.Target("https://ray.example.org", "python")
    assert target.python != sys.executable
    assert environ == {"METAREC_HOME": str(tmp_path)}
