"""A log in an object store gives the store of the same files in a folder.

S3 is tested against a server on this machine (`make test-extras` installs it).
"""

import gzip
import io
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import polars as pl
import pytest
import yaml
from pyarrow import fs

from metarec_ray.data.log import sources
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store.manifest import load
from metarec_ray.data.store.pipeline import build
from metarec_ray.data.store.planning import Run
from metarec_ray.errors import DataError

server = pytest.importorskip(
    "moto.server", reason="needs the package moto[server]: make test-extras"
)

LOG = pl.DataFrame(
    {
        "user": [user for user in range(30) for _ in range(5)],
        "item": [(user * 3 + n) % 17 for user in range(30) for n in range(5)],
        "at": [user * 10 + n for user in range(30) for n in range(5)],
    }
)
NAMES = ("a b", "a#b", "a%20b", "a%b", "a?b", "a[1]", "a*b", "a+b", "a=b", "a&b", "é")


class Bucket(NamedTuple):
    """A bucket of the server and a folder that hold the same files."""

    folder: Path
    client: fs.S3FileSystem
    options: str

    def put(self, name: str, content: bytes) -> None:
        """Write a file to both."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        place = f"{self.folder.name}/{name}"
        with self.client.open_output_stream(place, compression=None) as stream:
            stream.write(content)

    def uri(self, name: str = "") -> str:
        """Return the URI of a quoted name or pattern."""
        return f"s3://{self.folder.name}/{name}?{self.options}"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server, on a port that was free."""
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"{host}:{port}"
    running.stop()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def bucket(address: str, tmp_path: Path) -> Bucket:
    folder = tmp_path / f"bucket-{time.monotonic_ns()}"
    folder.mkdir()
    client = fs.S3FileSystem(
        endpoint_override=address, scheme="http", region="us-east-1", allow_bucket_creation=True
    )
    client.create_dir(folder.name)
    return Bucket(folder, client, options(address))


def options(address: str) -> str:
    return f"endpoint_override={address}&scheme=http&region=us-east-1"


def asking(path: str | Path, **more: object) -> Data:
    fields = {"path": str(path), "columns": Columns(time="at"), "buckets": 2}
    return Data.model_validate(fields | more)


def written(form: str, rows: pl.DataFrame = LOG) -> bytes:
    if form == "csv.gz":
        return gzip.compress(rows.write_csv().encode(), mtime=0)
    if form == "parquet":
        stream = io.BytesIO()
        rows.write_parquet(stream, row_group_size=40)
        return stream.getvalue()
    return (rows.write_csv() if form == "csv" else rows.write_ndjson()).encode()


def stored(asked: Data, store: Path) -> str:
    """Return the hash of the store that is built in this process."""
    run = Run(map, map, lambda _: None)
    return build(sources.find(asked), store, run).store_sha256


def check(bucket: Bucket, remote: str, local: str, **more: object) -> None:
    """Compare the stores of a path in the bucket and one in the folder."""
    made = stored(asking(bucket.uri(remote), **more), bucket.folder.parent / "remote")
    path = bucket.folder / local
    assert made == stored(asking(path, **more), bucket.folder.parent / "local")


def test_a_folder_of_parquet_with_partitions_is_a_log(bucket: Bucket) -> None:
    for number, shop in enumerate(("a b", "é", "1%")):
        rows = LOG[number * 50 : number * 50 + 50]
        bucket.put(f"log/day={number}/shop={shop}/part.parquet", written("parquet", rows))
    bucket.put("log/_SUCCESS", b"")
    context = {"day": Feature(kind="numeric"), "shop": Feature(kind="categorical")}
    for name in ("log", "log/"):
        check(bucket, name, "log", context=context)
    found = read_log(asking(bucket.uri("log"), context=context)).events
    assert set(found["context.shop"]) == {"a b", "é", "1%"}


@pytest.mark.parametrize("form", ["csv", "csv.gz", "jsonl", "parquet"])
def test_a_file_of_every_form_is_a_log(bucket: Bucket, form: str) -> None:
    bucket.put(f"log/log.{form}", written(form))
    for name in (f"log/log.{form}", "log", ""):
        check(bucket, name, name)


def test_a_pattern_names_files_and_folders(bucket: Bucket) -> None:
    for day in range(3):
        rows = LOG[day * 50 : day * 50 + 50]
        bucket.put(f"day {day}/log.csv", written("csv", rows))
    for pattern in ("day *", "day [01]/*.csv", "**/log.csv"):
        check(bucket, quote(pattern, safe="*[]/"), pattern)
    assert len(read_log(asking(bucket.uri("day%20[01]/*"))).events) == 100
    with pytest.raises(
        DataError, match=r"must begin after the name of the bucket, got s3://buck\*"
    ):
        read_log(asking(f"s3://buck*/log.csv?{bucket.options}"))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_name_whatever_it_is_made_of(bucket: Bucket, name: str) -> None:
    bucket.put(f"{name}/{name}.csv", written("csv"))
    quoted = quote(name)
    for asked in (f"{quoted}/{quoted}.csv", quoted, f"{quote(name[0])}*"):
        assert len(read_log(asking(bucket.uri(asked))).events) == len(LOG)


@pytest.mark.parametrize("name", ["log", "log/log.parquet", "log/*.parquet"])
def test_side_tables_lie_beside_the_log(bucket: Bucket, name: str) -> None:
    bucket.put("log/log.parquet", written("parquet"))
    items = pl.DataFrame({"id": list(range(17)), "kind": list("abcdefghijklmnopq")})
    bucket.put("log/items.parquet", written("parquet", items))
    features = {"kind": Feature(kind="categorical")}
    beside = SideTable(path="items.parquet", id="id", features=features)
    local = name if name == "log" else "log/log.parquet"
    check(bucket, name, local, items=beside)
    log = read_log(asking(bucket.uri(name), items=beside))
    assert log.items is not None
    assert log.items["kind"].to_list() == items["kind"].to_list()
    named = beside.model_copy(update={"path": bucket.uri("log/items.parquet")})
    assert read_log(asking(bucket.uri(name), items=named)).rows_in == len(LOG)


def test_a_log_is_another_when_an_object_is_of_the_same_second_and_size(bucket: Bucket) -> None:
    asked = asking(bucket.uri("log.csv"))
    seen = []
    for rows in (LOG, LOG.reverse(), LOG):
        bucket.put("log.csv", written("csv", rows))
        seen.append(sources.find(asked).fingerprint)
    assert seen[0] != seen[1]
    assert seen[0] == seen[2]


def test_what_is_not_there_is_named(bucket: Bucket) -> None:
    bucket.put("log/log.csv", written("csv"))
    missing = [bucket.uri(name) for name in ("none", "none.csv", "none/*.csv")]
    missing += [f"s3://no-such-bucket{name}?{bucket.options}" for name in ("", "/log", "/log.csv")]
    for path in missing:
        with pytest.raises(DataError, match=r"data.path must be a file, a folder or one of .*/no"):
            read_log(asking(path))
    with pytest.raises(DataError, match=r"files of one format, .*got none .*none\*"):
        read_log(asking(bucket.uri("none*.csv")))
    with pytest.raises(DataError, match=r"an input file must exist, none is at items\.csv"):
        read_log(asking(bucket.uri("log"), items=SideTable(path="items.csv", id="id")))
    with pytest.raises(DataError, match="a URI must name a bucket, got 's3://'"):
        read_log(asking(f"s3://?{bucket.options}"))


def test_a_truncated_object_is_named_before_anything_is_read(bucket: Bucket) -> None:
    bucket.put("log/a.parquet", written("parquet"))
    bucket.put("log/b.parquet", written("parquet")[:-10])
    with pytest.raises(DataError, match=r"Parquet file must be whole .*/log/b.parquet.* is not: "):
        sources.find(asking(bucket.uri("log")))
    bucket.put("log/b.parquet", b"")
    with pytest.raises(DataError, match=r"must hold rows, got 0 bytes \(.*/log/b.parquet"):
        sources.find(asking(bucket.uri("log")))


def test_wrong_credentials_are_one_sentence(bucket: Bucket, address: str) -> None:
    bucket.put("log/log.csv", written("csv"))
    try:
        refuse(address, after="0")
        for name in ("log", "log/log.csv", "log/*.csv"):
            with pytest.raises(DataError, match=r"file system must answer, .* ACCESS_DENIED"):
                read_log(asking(bucket.uri(name)))
    finally:
        refuse(address, after="inf")


def refuse(address: str, *, after: str) -> None:
    """Have the server look at credentials after some requests; it knows nobody's."""
    asked = urllib.request.Request(
        f"http://{address}/moto-api/reset-auth",
        data=after.encode(),
        headers={"Content-Type": "text/plain"},
    )
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=10).close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_server_that_is_gone_is_one_sentence(scheme: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    path = {
        "s3": f"s3://bucket/log.csv?{options(f'127.0.0.1:{port}')}",
        "gs": f"gs://anonymous@bucket/log.csv?endpoint_override=127.0.0.1:{port}&scheme=http",
    }[scheme]
    with pytest.raises(DataError, match=r"a file system must answer, .*log.csv.* does not: ") as e:
        read_log(asking(path))
    assert "\n" not in str(e.value)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_workers_reach_the_server_and_write_the_same_store(bucket: Bucket) -> None:
    """A process of its own: workers take the credentials that were there when Ray began."""
    for number in range(3):
        rows = LOG[number * 50 : number * 50 + 50]
        bucket.put(f"a log/day={number}/part.parquet", written("parquet", rows))
    work = bucket.folder.parent
    asked = asking(bucket.uri("a%20log"))
    data = {"path": asked.path, "columns": {"time": "at"}, "buckets": 2}
    config = work / "config.yaml"
    config.write_text(yaml.safe_dump({"run": {"dir": str(work / "run")}, "data": data}))
    said = metarec(work, "prepare", str(config))
    assert said.returncode == 0, said.stderr
    made = load(work / "run" / "store")
    assert made.store_sha256 == stored(asking(bucket.folder / "a log"), work / "local")
    assert made.settings["path"] == asked.path
    assert made.source_fingerprint == sources.find(asked).fingerprint
    bucket.put("a log/day=1/part.parquet", written("parquet", LOG[50:99]))
    assert made.source_fingerprint != sources.find(asked).fingerprint


def metarec(work: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does: own home, no variable of Ray."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-m", "metarec_ray", *words],
        env=clean | {"METAREC_HOME": str(work / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
