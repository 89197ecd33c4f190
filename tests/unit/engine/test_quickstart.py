"""What the quickstart makes of a log of one's own, before Ray starts."""

from pathlib import Path

import pytest

from metarec_ray.engine.quickstart import _base, quickstart
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
