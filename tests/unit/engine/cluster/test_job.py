"""What a submitted job is made of; nothing is sent."""

import sys
from pathlib import Path

import pytest

from metarec_ray.config.experiment import absolute, load
from metarec_ray.engine.cluster import job as jobs
from metarec_ray.errors import ConfigError, MachineError


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("METAREC_DATA", raising=False)
    path = tmp_path / "experiment.yaml"
    path.write_text("run: {dir: runs/a}\ntrain: {steps: 7}\n")
    return path


def test_a_job_runs_the_same_line_on_the_resolved_experiment(config: Path, tmp_path: Path) -> None:
    job = jobs.plan("train", config, ["train.steps=9"], ["--json"])
    assert (
        job.line("/venv/bin/python") == "/venv/bin/python -m metarec_ray train config.yaml --json"
    )
    sent = tmp_path / "sent.yaml"
    sent.write_text(job.config or "")
    assert load(sent).train.steps == 9
    assert load(sent).run.dir == str(tmp_path / "runs" / "a")
    # Not named: a job prepares what is its own, as the line does here.
    assert load(sent).run.store is None
    assert load(sent).store == tmp_path / "runs" / "a" / "store"
    named = jobs.plan("train", config, ["run.store=runs/b"]).config
    sent.write_text(named or "")
    assert load(sent).run.store == str(tmp_path / "runs" / "b")


def test_a_word_of_the_line_with_spaces_stays_one_word(config: Path) -> None:
    job = jobs.plan("tune", config, [], ["--x", "a b; rm -rf /"])
    assert (
        job.line("/my venv/python")
        == "'/my venv/python' -m metarec_ray tune config.yaml --x 'a b; rm -rf /'"
    )


def test_a_checkpoint_is_named_by_its_absolute_path(config: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    job = jobs.plan("evaluate", Path("checkpoint"), ["a.b=c"])
    line = f"python -m metarec_ray evaluate {tmp_path}/checkpoint --set a.b=c"
    assert (job.line("python"), job.config) == (line, None)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("synthetic", "files"),
        ("ml-1m", "files"),
        ("s3://bucket/log.parquet", "files"),
        ("shop.clicks", "iceberg"),
    ],
)
def test_names_of_data_sets_tables_and_uris_stay_as_they_are(
    path: str, form: str, config: Path
) -> None:
    experiment = load(config, [f"data.path={path}", f"data.format={form}"])
    assert absolute(experiment, Path("/folder")).data.path == path


@pytest.mark.parametrize("path", ["log", "log.csv", "log/day=*/*.csv"])
def test_where_a_log_lies_is_made_absolute(path: str, config: Path) -> None:
    experiment = load(config, [f"data.path={path}"])
    assert absolute(experiment, Path("/folder")).data.path == f"/folder/{path}"


def test_a_table_beside_its_log_stays_relative_to_it(config: Path, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for name in ("log/items.csv", "users.csv", "rows.csv"):
        (tmp_path / name).touch()
    sets = ["data.path=./log", "data.items={path: items.csv, id: i}"]
    sets += ["data.users={path: users.csv, id: u}"]
    sets += ["data.only={path: rows.csv, column: x, value: 1}"]
    sets += ["data.without={path: partition/rows.csv, column: x, value: 1}"]
    data = absolute(load(config, sets), tmp_path).data
    assert data.path == str(tmp_path / "log")
    assert data.items is not None
    assert data.users is not None
    assert data.only is not None
    assert data.without is not None
    found = [side.path for side in (data.items, data.users, data.only, data.without)]
    here = [str(tmp_path / name) for name in ("users.csv", "rows.csv")]
    assert found == ["items.csv", *here, "partition/rows.csv"]


def test_the_folder_of_data_sets_travels_with_a_job(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAREC_DATA", "datasets")
    job = jobs.plan("train", config)
    assert job.environment == {"METAREC_DATA": str(tmp_path / "datasets")}


def test_a_mistake_is_found_before_a_cluster_is_asked(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.steps must be > 0, got 0"):
        jobs.plan("train", config, ["train.steps=0"])
    with pytest.raises(ConfigError, match="one of prepare, train, tune, evaluate, got 'serve'"):
        jobs.plan("serve", config)


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
