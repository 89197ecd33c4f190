"""What a tracking URI may be, where its path begins, and what sentences show of one."""

from pathlib import Path

import pytest

from metarec_ray.config.compare import difference
from metarec_ray.config.experiment import absolute, load, parse, relative
from metarec_ray.config.tracking import is_server
from metarec_ray.errors import ConfigError


def asked(uri: str) -> str | None:
    return load(None, [f"train.mlflow={uri}"]).train.mlflow


@pytest.mark.parametrize(
    "uri",
    ["http://tracking:5000", "https://host/prefix", "sqlite:///runs.db", "file:///mlruns", "a/b"],
)
def test_folders_data_bases_and_servers_are_taken(uri: str) -> None:
    assert asked(uri) == uri


def test_home_is_home_and_nothing_is_none() -> None:
    assert asked("~/mlruns") == str(Path("~/mlruns").expanduser())
    assert asked("") is None
    assert load(None).train.mlflow is None


@pytest.mark.parametrize(
    ("uri", "rule"),
    [
        ("foo://host", "begins with one of http, https, sqlite, file, got 'foo://host'"),
        ("postgresql://host/db", "begins with one of"),
        ("databricks", "is a folder, or begins with one of"),
        ("http://", "must have a host"),
        ("sqlite:///", "of sqlite is sqlite:///PATH"),
        ("sqlite://runs.db", "of sqlite is sqlite:///PATH"),
        ("file://host/a", "of file is file:///PATH"),
    ],
)
def test_what_nobody_could_be_told_at_is_refused(uri: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"train.mlflow: a tracking .*{rule}"):
        asked(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:secret@host",
        "https://secret@host",
        "http://host?token=secret",
        "postgresql://me:secret@host/db",
        "sqlite://me:secret@host/db",
        "foo://me:secret@host",
    ],
)
def test_a_secret_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(ConfigError, match="which belong in the environment") as error:
        asked(uri)
    assert "secret" not in str(error.value)


def test_what_tune_reads_is_sweep_and_its_uri_may_be_called_tune() -> None:
    assert load(None, ["tune.mlflow=http://host"]).sweep.mlflow == "http://host"
    both = {"tune": {"mlflow": "a"}, "sweep": {"mlflow": "a", "trials": 2}}
    assert parse(both, "the test").sweep.trials == 2
    with pytest.raises(ConfigError, match=r"tune.mlflow is sweep.mlflow, which is set too"):
        parse({"tune": {"mlflow": "a"}, "sweep": {"mlflow": "b"}}, "the test")
    with pytest.raises(ConfigError, match="what metarec tune reads is the section sweep, got tune"):
        load(None, ["tune.trials=3"])


def test_a_path_begins_where_the_command_was_given_and_stays_there(tmp_path: Path) -> None:
    settings = load(None, ["train.mlflow=sqlite:///runs.db", "sweep.mlflow=mlruns"])
    found = absolute(settings, tmp_path)
    assert found.train.mlflow == f"sqlite:///{tmp_path}/runs.db"
    assert found.sweep.mlflow == f"{tmp_path}/mlruns"
    assert relative(found, tmp_path / "run").train.mlflow == f"sqlite:///{tmp_path}/runs.db"


def test_a_run_resumes_wherever_it_is_tracked() -> None:
    keys = ["train.mlflow=http://host", "sweep.mlflow=http://host", "train.tensorboard=true"]
    sections = ("train", "sweep", "bench")
    assert difference(load(None), load(None, keys), "implicit", sections) is None


def test_a_folder_is_no_server() -> None:
    assert [is_server(uri) for uri in ("HTTP://host", "https_runs", "sqlite:///http://")] == [
        True,
        False,
        False,
    ]
