"""What `metarec data describe` says of a store."""

from pathlib import Path

import polars as pl
import pytest

from metarec_ray.data.inspection.describe import describe
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data
from metarec_ray.data.store.manifest import load
from metarec_ray.data.store.writing import build_store
from metarec_ray.errors import DataError

# Ten users begin at 1..10 s: the cutoff is 9 s. All meet item 5 at 20 s and item 6 with it.
LOG = pl.DataFrame(
    [
        {"user": user, "item": item, "at": at}
        for user in range(1, 11)
        for item, at in [(user % 3, user), (5, 20), (6, 20)]
    ]
)


def store(folder: Path, columns: Columns, **more: object) -> Path:
    LOG.write_parquet(folder / "log.parquet")
    fields = {"path": str(folder / "log.parquet"), "columns": columns, "buckets": 3}
    asked = Data.model_validate(fields | more)
    build_store(read_log(asked), asked, folder / "store")
    return folder / "store"


def test_a_store_proves_that_no_query_precedes_its_support(tmp_path: Path) -> None:
    found = describe(store(tmp_path, Columns(time="at")))
    assert (found["entities"], found["events"], found["items"]) == (10, 30, 5)
    assert found["parts"] == {"test": 2, "train": 7, "valid": 1}
    assert found["cutoff"] == "1970-01-01T00:00:09+00:00"
    assert found["no query before its support"] == {
        "histories in order of time": "10 of 10",
        "events that share their instant with the one before": "10",
        "test histories that begin at or after the cutoff": "2 of 2",
        "events of others at or after it, which nothing learns from": "16",  # items 5 and 6 of 8
    }


def test_a_log_without_a_clock_has_an_order_and_no_cut(tmp_path: Path) -> None:
    proof = describe(store(tmp_path, Columns(), valid_share=0.5))["no query before its support"]
    assert proof == {
        "no clock": "histories are in the order of the sequence, nothing is cut in time"
    }


def test_older_versions_can_be_described(tmp_path: Path) -> None:
    path = store(tmp_path, Columns(time="at"))
    store(tmp_path, Columns(time="at"), buckets=1)
    assert (describe(path)["version"], describe(path)["versions"]) == (2, [1, 2])
    assert describe(path, 1)["version"] == 1
    with pytest.raises(DataError, match=r"none can be read at .*v000007"):
        describe(path, 7)


def test_an_altered_store_is_not_described(tmp_path: Path) -> None:
    path = store(tmp_path, Columns(time="at"))
    load(path).file(path, "bucket-00001.parquet").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"sha256 of bucket-00001.parquet must be"):
        describe(path)


def test_a_store_says_that_the_last_events_are_held_out(tmp_path: Path) -> None:
    found = describe(store(tmp_path, Columns(time="at"), split="last"))
    assert found["parts"] == {"train": 10}
    proof = found["no query before its support"]
    assert isinstance(proof, dict)
    assert proof["last events of every history, which nothing learns from"] == "2"
