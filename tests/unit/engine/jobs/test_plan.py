"""What a submitted job is made of; nothing is sent."""

from pathlib import Path

import pytest
import typer

from metarec_ray.cli import lines
from metarec_ray.cli.app import app
from metarec_ray.config.experiment import absolute, load
from metarec_ray.engine.cluster.job import Job
from metarec_ray.engine.jobs.plan import plan
from metarec_ray.errors import ConfigError, DataError, MetarecError


def planned(*words: object) -> Job:
    return plan(lines.read(typer.main.get_command(app), [str(word) for word in words]))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("METAREC_DATA", raising=False)
    path = tmp_path / "experiment.yaml"
    path.write_text("run: {dir: runs/a}\ntrain: {steps: 7}\n")
    return path


def test_a_job_runs_the_same_line_on_the_resolved_experiment(config: Path, tmp_path: Path) -> None:
    job = planned("train", config, "--set", "train.steps=9", "--json")
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
    named = planned("train", config, "--set", "run.store=runs/b").config
    sent.write_text(named or "")
    assert load(sent).run.store == str(tmp_path / "runs" / "b")


def test_a_checkpoint_is_named_by_its_absolute_path(config: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    job = planned("evaluate", "checkpoint", "--set", "a.b=c")
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
    job = planned("train", config)
    assert job.environment == {"METAREC_DATA": str(tmp_path / "datasets")}


def test_a_mistake_is_found_before_a_cluster_is_asked(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.steps must be > 0, got 0"):
        planned("train", config, "--set", "train.steps=0")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve", "x"], "one of prepare, train, distil, tune, .*, data append, got 'serve'"),
        (["train", "CONFIG", "--resume"], "metarec train must .*: No such option: --resume"),
        (["tune", "CONFIG", "--resume=x"], "metarec tune must .*: Option '--resume' does not take"),
        (["bench", "CONFIG", "--seeds", "0"], "metarec bench must .* '--seeds'"),
        (["bench", "CONFIG", "--seeds"], "metarec bench must .* '--seeds' requires an argument"),
        (["bench", "CONFIG", "--protocol", "melo"], "--protocol must be one of .*, got 'melo'"),
        (["evaluate", "CONFIG", "--protocol", "x"], "--protocol must be one of .*, got 'x'"),
        (["data", "append"], "metarec data append must .*: Missing argument 'CONFIG'"),
    ],
)
def test_what_a_verb_does_not_take_is_one_sentence(
    words: list[str], said: str, config: Path
) -> None:
    with pytest.raises(MetarecError, match=said) as told:
        planned(*(str(config) if word == "CONFIG" else word for word in words))
    assert "\n" not in str(told.value)


def test_options_of_a_bench_travel_and_its_folder_is_of_this_machine(
    config: Path, tmp_path: Path
) -> None:
    options = ["--protocol", "melu", "--learners", "ease,anil", "--seeds", 3, "--out", "table"]
    job = planned("bench", config, *options, "--alone", "--set", "train.steps=9")
    assert job.line("python") == (
        "python -m metarec_ray bench config.yaml --protocol melu --learners ease,anil --seeds 3 "
        f"--out {tmp_path}/table --alone"
    )
    assert job.run == f"{tmp_path}/table"
    assert "steps: 9" in (job.config or "")
    assert planned("bench", config).words == ["bench", "config.yaml"]


def test_an_append_is_two_words_and_its_date_is_read_here(config: Path, tmp_path: Path) -> None:
    job = planned("data", "append", config, "--since", "2024-05-31", "--json")
    assert job.words == ["data", "append", "config.yaml", "--since", "2024-05-31", "--json"]
    assert (job.verb, job.run) == ("data append", f"{tmp_path}/runs/a/store")
    with pytest.raises(DataError, match=r"--since must be a date or a time, .*, got 'yesterday'"):
        planned("data", "append", config, "--since", "yesterday")


def test_a_teacher_is_of_this_machine(config: Path, tmp_path: Path) -> None:
    job = planned("distil", "runs/big", config)
    assert job.words == ["distil", f"{tmp_path}/runs/big", "config.yaml"]
    assert f"teacher: {tmp_path}/runs/big" in (job.config or "")


def test_a_sweep_may_be_resumed_by_a_job(config: Path) -> None:
    assert planned("tune", config, "--resume").words == ["tune", "config.yaml", "--resume"]
