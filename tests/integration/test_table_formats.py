"""Delta and Iceberg tables give the store of the same rows in files, once a snapshot."""

from pathlib import Path

import polars as pl
import pytest

from metarec_ray.data.settings import Columns, Data
from metarec_ray.engine.prepare import table_formats
from metarec_ray.engine.prepare.driver import prepare
from metarec_ray.errors import DataError, MachineError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(180)]

LOG = pl.DataFrame(
    {
        "user": [user for user in range(30) for _ in range(5)],
        "item": [(user * 3 + n) % 17 for user in range(30) for n in range(5)],
        "at": [user * 10 + n for user in range(30) for n in range(5)],
        "unasked": [0] * 150,
    }
)


def asking(path: object, form: str) -> Data:
    return Data.model_validate({"path": str(path), "format": form, "columns": Columns(time="at")})


def test_a_missing_package_is_named_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_formats, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match=r"needs the package deltalake: pip install '.*delta"):
        prepare(asking(tmp_path, "delta"), tmp_path / "x", data_dir=None, progress=print)


def check(folder: Path, asked: Data, grow) -> None:
    LOG.write_parquet(folder / "log.parquet")
    said: list[str] = []
    files = prepare(
        asking(folder / "log.parquet", "files"), folder / "f", data_dir=None, progress=said.append
    )
    made = prepare(asked, folder / "t", data_dir=None, progress=said.append)
    assert made.store_sha256 == files.store_sha256
    assert made.settings["path"] == asked.path
    assert prepare(asked, folder / "t", data_dir=None, progress=said.append) == made
    assert said[-1].endswith(f"is up to date, {made.tasks} tasks")
    grow()
    more = prepare(asked, folder / "t", data_dir=None, progress=said.append)
    assert more.events == made.events + 2
    assert not [path for path in folder.iterdir() if path.name.startswith(".t.table")]


def test_a_delta_table_is_a_log(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    path = str(tmp_path / "delta")
    deltalake.write_deltalake(path, LOG[:70].to_arrow())
    deltalake.write_deltalake(path, LOG[70:].to_arrow(), mode="append")
    new = LOG[:2].with_columns(pl.col("at") + 5000).to_arrow()
    check(
        tmp_path, asking(path, "delta"), lambda: deltalake.write_deltalake(path, new, mode="append")
    )
    with pytest.raises(DataError, match=r"must be readable, delta .*none is not"):
        prepare(asking(tmp_path / "none", "delta"), tmp_path / "x", data_dir=None, progress=print)


def test_an_iceberg_table_is_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyiceberg")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__WAREHOUSE", f"file://{tmp_path}/warehouse")
    from pyiceberg.catalog import load_catalog  # pyright: ignore[reportMissingImports]

    (tmp_path / "warehouse").mkdir()
    catalog = load_catalog()
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.clicks", schema=LOG.to_arrow().schema)
    table.append(LOG.to_arrow())
    new = LOG[:2].with_columns(pl.col("at") + 5000).to_arrow()
    check(tmp_path, asking("shop.clicks", "iceberg"), lambda: table.append(new))
    with pytest.raises(DataError, match=r"must be readable, iceberg shop.none is not"):
        prepare(asking("shop.none", "iceberg"), tmp_path / "x", data_dir=None, progress=print)
