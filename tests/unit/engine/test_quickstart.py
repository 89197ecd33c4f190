"""What the quickstart makes of a log of one's own, and what it fits by default."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from metarec_ray.config.experiment import load, override
from metarec_ray.engine.quickstart import _base, _default, quickstart
from metarec_ray.errors import DataError


def log(folder: Path, head: str) -> Path:
    path = folder / "log.csv"
    rows = [
        f"{u},{i},{1_577_836_800 + 60 * u + i},{(u * i) % 5 + 1}"
        for u in range(9)
        for i in range(9)
    ]
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_the_columns_of_a_log_are_guessed(tmp_path: Path) -> None:
    said: list[str] = []
    path = log(tmp_path, "customer,sku,at,stars")
    base = _base(str(path), tmp_path / "run", None, said.append)
    columns = base.data.roles
    assert (columns.entity, columns.item, columns.time) == ("customer", "sku", "at")
    assert base.data.feedback == "explicit"
    assert (base.sweep.trials, base.run.dir) == (6, str(tmp_path / "run"))
    assert said == [
        f"{path}: explicit feedback, entity customer, item sku, label stars, time at; "
        f"`metarec init {path}` writes it down"
    ]


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ("a,b,c,d", "data.columns.entity must be one of a, b, d"),
        (None, "a log must be a file, a folder or one of synthetic, ml-1m"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused_before_ray_starts(
    tmp_path: Path, head: str | None, sentence: str
) -> None:
    path = tmp_path / "nowhere.csv" if head is None else log(tmp_path, head)
    with pytest.raises(DataError, match=sentence):
        quickstart(str(path), tmp_path / "run", data_dir=None, progress=lambda _: None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["synthetic", "ml-1m"])
def test_a_known_data_set_is_not_looked_at(tmp_path: Path, name: str) -> None:
    base = _base(name, tmp_path / "run", None, lambda _: None)
    assert (base.data.path, base.data.feedback, base.data.columns) == (name, "implicit", None)


def made(feedback: str, users: int, items: int = 500) -> SimpleNamespace:
    parts = {"train": users - users // 10, "valid": users // 10, "test": users // 4}
    manifest = SimpleNamespace(feedback=feedback, parts=parts)
    return SimpleNamespace(manifest=manifest, items=SimpleNamespace(ids=range(items)))


@pytest.mark.parametrize(
    ("feedback", "users", "items", "members"),
    [
        ("implicit", 500, 500, {"head", "ridge"}),
        ("implicit", 499, 500, {"head", "popularity", "ease"}),
        ("implicit", 120, 30_000, {"head", "popularity"}),
        ("implicit", 500, 30_000, {"head", "factors"}),
        ("explicit", 500, 500, {"head", "ridge"}),
        ("explicit", 499, 500, {"head", "bias"}),
    ],
)
def test_the_default_of_a_small_log_has_few_and_simple_members(
    feedback: str, users: int, items: int, members: set[str]
) -> None:
    found = _default(made(feedback, users, items))  # type: ignore[arg-type]
    assert set(found["blend"]["members"]) == members
    experiment = override(load(None), found)
    assert set(experiment.members()) == members
    large = feedback == "implicit" and users == 500
    assert (experiment.second_stage is not None) == large


def test_for_clicks_the_head_is_alone() -> None:
    assert _default(made("binary", 100)) == {}  # type: ignore[arg-type]
