"""Columns of Parquet that polars does not take as they are."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metarec_ray.data.files import tables

NOON = datetime(2020, 1, 6, 12, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["+05:30", "-08:00", "Z", "Mars/Phobos", "Europe/Berlin", "UTC"])
def test_an_instant_is_read_whatever_its_zone_is_called(zone: str, tmp_path: Path) -> None:
    stamps = pa.array([NOON, None], pa.timestamp("ms", "UTC")).cast(pa.timestamp("ms", zone))
    nested = pa.array([[NOON], []], pa.list_(pa.timestamp("us", "UTC")))
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user": [1, 2], "at": stamps, "others": nested}), path)
    assert [*tables.schema(path)] == ["user", "at", "others"]
    found = tables.read(path, ["user", "at", "others"])
    assert found["at"].to_list() == [NOON, None]
    assert found["at"].to_list()[0].utcoffset() == timedelta(0)
    assert found["others"].to_list() == [[NOON], []]


def test_wide_decimals_are_floats(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"x": pa.array([Decimal("1.50")], pa.decimal256(40, 2))}), path)
    assert tables.read(path, ["x"])["x"].to_list() == [1.5]
