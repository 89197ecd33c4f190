"""Random logs in every form: what comes out is what went in, or a sentence says why not.

`make test-cases` tries ten thousand; METAREC_CASES sets the number.
"""

import csv
import gzip
import io
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from metarec_ray.data.log import sources
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data
from metarec_ray.data.text_format import MISSING
from metarec_ray.errors import DataError

CASES = int(os.environ.get("METAREC_CASES", "60"))
UNITS = {"s": 10**6, "ms": 10**3, "us": 1}
Row = tuple[str | None, str | None, str | None, int | None]


class Written(NamedTuple):
    """How a log is written: suffix, separator, quoting, encoding, unit of time or `date`."""

    form: str
    separator: str = ","
    quoting: int = csv.QUOTE_MINIMAL
    encoding: str = "utf-8"
    unit: str = "s"
    ends: str = "\n"


ALPHABET = st.one_of(
    st.characters(blacklist_categories=["Cs", "Cc"], max_codepoint=0xFF),
    st.sampled_from("\"',;|: \n\té日"),
)
IDS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.integers(0, 30).map(str),
    st.sampled_from(["01", "001", "+1", "1.0", "2.0", " 1", "1 ", "-0", "1e3", "NA", "nan", "-1"]),
    st.text(ALPHABET, min_size=1, max_size=6),
)
LABELS = st.sampled_from(["0.5", "1", "3", "4.5", "1e2", "-2", "x", "NA", "inf", ""])
TIMES = st.integers(10**15, 2 * 10**15).map(lambda micros: micros // 10**6 * 10**6)
ROWS = st.lists(
    st.tuples(st.none() | IDS, st.none() | IDS, st.none() | LABELS, st.none() | TIMES),
    min_size=1,
    max_size=6,
)
FORMS = st.one_of(
    st.builds(
        Written,
        form=st.sampled_from(["csv", "csv.gz", "dat", "txt"]),
        separator=st.sampled_from([",", ";", "|", "::"]),
        quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
        unit=st.sampled_from([*UNITS, "date"]),
        ends=st.sampled_from(["\n", "\r\n"]),
    ),
    st.builds(
        lambda form, unit: Written(form, unit=unit),
        st.sampled_from(["tsv", "jsonl", "json", "jsonl.gz", "parquet"]),
        st.sampled_from([*UNITS, "date"]),
    ),
)


def moment(micros: int | None, unit: str) -> str | None:
    if micros is None:
        return None
    if unit == "date":
        return datetime.fromtimestamp(micros / 10**6, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return str(micros // UNITS[unit])


def write(folder: Path, rows: list[Row], how: Written) -> dict[str, Any] | None:
    """Write a log and return the keys that read it; None if it cannot be written so."""
    table = [(*row[:3], moment(row[3], how.unit)) for row in rows]
    keys: dict[str, Any] = {"path": str(folder / f"log.{how.form}")}
    path = Path(keys["path"])
    names = ("user", "item", "stars", "at")
    if how.form == "parquet":
        pl.DataFrame(table, schema=dict.fromkeys(names, pl.String), orient="row").write_parquet(
            path
        )
        return keys
    if "json" in how.form:
        objects = [dict(zip(names, row, strict=True)) for row in table]
        lines = "\n".join(map(json.dumps, objects))
        text = (json.dumps(objects) if how.form == "json" else lines).encode()
        path.write_bytes(gzip.compress(text) if how.form.endswith("gz") else text)
        return keys
    bare = how.form == "tsv" or len(how.separator) > 1
    separator = "\t" if how.form == "tsv" else how.separator
    values = [[value or "" for value in row] for row in table]
    if bare:
        if any(set(value) & {"\n", "\r"} or separator in value for row in values for value in row):
            return None
        text = how.ends.join(separator.join(row) for row in [list(names), *values])
        if any(separator in separator.join(row).replace(separator, "", 3) for row in values):
            return None  # a colon at the edge of a value
    else:
        into = io.StringIO(newline="")
        writer = csv.writer(into, delimiter=separator, quoting=how.quoting, lineterminator=how.ends)  # type: ignore[call-overload]
        writer.writerows([names, *values])
        text = into.getvalue()
        keys["quote"] = '"'
    try:
        raw = text.encode(how.encoding)
    except UnicodeEncodeError:
        return None
    path.write_bytes(gzip.compress(raw) if how.form.endswith("gz") else raw)
    keys |= {"encoding": how.encoding} if how.encoding != "utf-8" else {}
    return keys | ({"separator": separator} if how.form != "tsv" else {})


def expected(row: Row, *, whole: dict[str, bool]) -> tuple[str, str, float, int] | None:
    """Return the event of a row as text would have it, None if it is bad."""
    user, item, stars, at = (None if value in MISSING else value for value in row)
    if user is None or item is None or stars in (None, "x", "inf") or at is None:
        return None
    user, item = (
        value.removesuffix(".0") if whole[name] else value
        for name, value in (("user", user), ("item", item))
    )
    return str(user), str(item), float(str(stars)), int(at)


def has_gap(values: list[str | None]) -> bool:
    """Return whether a column is numbers as 1.0 with a gap, which are read as 1."""
    present = [value for value in values if value not in MISSING and value is not None]
    return (
        len(present) < len(values)
        and any(value.endswith(".0") for value in present)
        and all(value.removesuffix(".0").isdecimal() and value[:1] != "0" for value in present)
    )


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(rows=ROWS, how=FORMS)
@example(rows=[("01", "1", "3", 10**15)], how=Written("csv"))
@example(rows=[("1.0", "a", "3", 10**15), (None, "b", "3", 10**15)], how=Written("csv"))
@example(rows=[('"', 'a"b', "3", 10**15), ("x", '"q"', "3", 10**15)], how=Written("tsv"))
@pytest.mark.timeout(60 + CASES)
def test_what_comes_out_is_what_went_in(rows: list[Row], how: Written) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keys = write(Path(folder), rows, how)
        if keys is not None:
            read_back(rows, how, keys)


def read_back(rows: list[Row], how: Written, keys: dict[str, Any]) -> None:
    columns = {"label": "stars", "time": "at"}
    unit = {} if how.unit == "date" else {"time_unit": how.unit}
    asked = Data.model_validate({"feedback": "explicit", "columns": columns, **unit, **keys})
    try:
        found = read_log(asked)
        notes = " ".join(sources.find(asked).notes)
    except DataError:
        return
    whole = {name: f"column {name!r} are read as 1" in notes for name in ("user", "item")}
    assert (found.rows_in, found.filtered) == (len(rows), 0)
    wanted = [expected(row, whole=whole) for row in rows]
    events = found.events.select(
        pl.col("entity", "item").cast(pl.String), pl.col("label").cast(pl.Float64), "time"
    )
    assert events.rows() == [row for row in wanted if row is not None]
    assert sorted(found.rejected["row"]) == [n for n, row in enumerate(wanted) if row is None]
