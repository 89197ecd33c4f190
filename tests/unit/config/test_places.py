"""Where the paths of an experiment are looked for, and how a run's own files write them."""

from pathlib import Path

import pytest

from metarec_ray.config.experiment import (
    Experiment,
    absolute,
    beside,
    dump,
    load,
    parse,
    relative,
    require_log,
)
from metarec_ray.errors import ConfigError, DataError

SIDES = """
  users: {path: users.csv, id: u}
  items: {path: items.csv, id: i}
  only: {path: rows.csv, column: x, value: 1}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `jobs/job.yaml`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/alice")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/job.yaml").write_text(f"data:\n  path: log.csv{SIDES}")
    return tmp_path


def paths(experiment: Experiment) -> list[str]:
    data = experiment.data
    assert data.users is not None
    assert data.items is not None
    assert data.only is not None
    return [data.path, data.users.path, data.items.path, data.only.path]


def touch(home: Path, *names: str) -> None:
    for name in names:
        (home / name).parent.mkdir(exist_ok=True, parents=True)
        (home / name).touch()


def test_what_is_read_is_taken_beside_its_configuration(home: Path) -> None:
    touch(home, "jobs/log.csv", "log.csv", "jobs/items.csv", "jobs/rows.csv", "users.csv")
    # A side file beside the log, which is beside the configuration, is found there by its name.
    assert paths(load(Path("jobs/job.yaml"))) == [
        "jobs/log.csv",
        "users.csv",
        "items.csv",
        "rows.csv",
    ]


def test_a_side_file_is_taken_beside_its_log_then_beside_its_configuration(home: Path) -> None:
    touch(home, "logs/log.csv", "logs/items.csv", "jobs/items.csv", "jobs/rows.csv", "users.csv")
    found = load(Path("jobs/job.yaml"), ["data.path=logs/log.csv"])
    assert paths(found) == ["logs/log.csv", "users.csv", "items.csv", "jobs/rows.csv"]


def test_what_is_beside_no_configuration_is_below_the_working_folder(home: Path) -> None:
    touch(home, "log.csv", "users.csv")
    assert paths(load(Path("jobs/job.yaml"))) == ["log.csv", "users.csv", "items.csv", "rows.csv"]


@pytest.mark.parametrize("path", ["synthetic", "ml-1m", "s3://bucket/log", "/logs/log.csv"])
def test_names_uris_and_absolute_paths_stay(home: Path, path: str) -> None:
    touch(home, "jobs/synthetic", "jobs/ml-1m/log.csv")
    assert load(Path("jobs/job.yaml"), [f"data.path={path}"]).data.path == path


def test_a_pattern_is_taken_beside_its_configuration(home: Path) -> None:
    touch(home, "jobs/logs/day-1/a.csv")
    found = load(Path("jobs/job.yaml"), ["data.path=logs/day-*/*.csv"])
    assert found.data.path == "jobs/logs/day-*/*.csv"


def test_a_run_is_written_below_the_working_folder_unless_its_configuration_says_so(
    home: Path,
) -> None:
    keys = ["run.dir=runs/a", "run.store=runs/b/store", "train.init_from=runs/c"]
    here = load(Path("jobs/job.yaml"), keys)
    assert (here.run.dir, here.run.store) == ("runs/a", "runs/b/store")
    assert here.train.init_from == "runs/c"
    there = load(Path("jobs/job.yaml"), [*keys, "run.relative_to=configuration"])
    assert (there.run.dir, there.run.store) == ("jobs/runs/a", "jobs/runs/b/store")
    assert there.train.init_from == "jobs/runs/c"
    assert there.run.relative_to == "working_folder"


@pytest.mark.parametrize(
    "override",
    ["run.dir=~/x", "run.store=~/x", "train.init_from=~/x", "data.path=~/x"],
)
def test_a_tilde_is_the_home_folder(home: Path, override: str) -> None:
    section, _, key = override.partition("=")[0].partition(".")
    found = load(Path("jobs/job.yaml"), [override])
    assert getattr(getattr(found, section), key) == "/home/alice/x"


def test_a_tilde_is_the_home_folder_of_side_files_and_configurations_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load(Path("jobs/job.yaml"), ["data.items.path=~/i.csv", "data.only.path=~/r.csv"])
    assert paths(found)[2:] == ["/home/alice/i.csv", "/home/alice/r.csv"]
    monkeypatch.setenv("HOME", str(home))
    assert load(Path("~/jobs/job.yaml")).data.path == "log.csv"


@pytest.mark.parametrize("key", ["run.dir", "run.store", "train.init_from", "train.teacher"])
@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("ftp://b/x", "a local path or a URI of s3, gs, .* is needed, got 'ftp://b/x'"),
        ("s3://b", "a URI must name a folder in a bucket, got 's3://b'"),
        ("s3://b/?region=eu", "a URI must name a folder in a bucket"),
        ("s3://key:secret@b/x", "a URI must not hold a password"),
    ],
)
def test_what_is_no_folder_of_an_object_store_is_refused(key: str, uri: str, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: {why}") as error:
        load(None, [f"{key}={uri}"])
    assert "secret" not in str(error.value)


def test_a_run_at_a_uri_has_a_place_on_each_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAREC_CACHE", str(tmp_path))
    run = load(None, ["run.dir=s3://b/runs/a?region=eu"])
    assert run.directory.parent == tmp_path / "copies"
    assert run.store == run.directory / "store"
    assert (run.of_run("best"), run.store_place) == (
        "s3://b/runs/a/best?region=eu",
        "s3://b/runs/a/store?region=eu",
    )
    other = load(None, ["run.store=s3://b/store"])
    assert other.store.parent == tmp_path / "copies"
    assert other.store_place == "s3://b/store"
    assert load(None, [f"run.dir=file://{tmp_path}/a%20b"]).directory == tmp_path / "a b"


def test_what_a_run_writes_can_be_moved_with_it(home: Path) -> None:
    touch(home, "p/log.csv", "p/users.csv", "p/elsewhere.csv")
    keys = {"path": "p/log.csv", "users": {"path": "users.csv", "id": "u"}}
    keys["items"] = {"path": "p/elsewhere.csv", "id": "i"}
    run = {"dir": "p/runs/a", "store": "p/runs/b/store"}
    asked = parse({"run": run, "data": keys, "train": {"init_from": "p/runs/c"}}, "here")
    folder = home / "p/runs/a/checkpoints/step-1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(dump(relative(asked, folder)))
    assert str(home) not in (folder / "config.json").read_text()
    assert load(folder / "config.json") == absolute(asked, home)
    (home / "p").rename(home / "q")
    found = load(home / "q/runs/a/checkpoints/step-1/config.json")
    assert found.run.dir == str(home / "q/runs/a")
    assert found.run.store == str(home / "q/runs/b/store")
    assert found.train.init_from == str(home / "q/runs/c")
    assert found.data.path == str(home / "q/log.csv")
    assert found.data.users is not None
    assert found.data.users.path == "users.csv"
    assert found.data.items is not None
    assert found.data.items.path == str(home / "q/elsewhere.csv")


def test_what_has_no_folder_in_common_with_a_run_stays_absolute(home: Path) -> None:
    asked = parse({"data": {"path": "/elsewhere/log.csv"}}, "here")
    assert relative(asked, home).data.path == "/elsewhere/log.csv"
    assert beside(relative(asked, home), home).data.path == "/elsewhere/log.csv"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            [],
            "data.path must be a file or a folder that exists, or one of synthetic, .*, got "
            "'log.csv', which is not in HOME/jobs or HOME .jobs/job.yaml: data.path.",
        ),
        (["data.path=/none.csv"], "got '/none.csv' .jobs/job.yaml"),
        (["data.path=none/*.csv"], "got 'none/.*', which is not in HOME/jobs or HOME "),
        (
            ["data.path=logs/a.csv"],
            "data.users.path must be a file that exists, got 'users.csv', which is not in "
            "HOME/logs or HOME/jobs or HOME .jobs/job.yaml: data.users.path.",
        ),
    ],
)
def test_the_sentence_of_a_missing_input_says_where_it_was_looked_for(
    home: Path, overrides: list[str], sentence: str
) -> None:
    touch(home, "logs/a.csv")
    path = Path("jobs/job.yaml")
    with pytest.raises(DataError, match=sentence.replace("HOME", str(home))):
        require_log(load(path, overrides), path)


def test_inputs_that_are_there_or_remote_are_not_missing(home: Path) -> None:
    path = Path("jobs/job.yaml")
    touch(home, "jobs/log.csv", "jobs/users.csv", "items.csv")
    for name in ("log.csv", "synthetic", "ml-1m", "s3://bucket/log"):
        require_log(load(path, [f"data.path={name}"]), path)
