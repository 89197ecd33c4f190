import json
import shutil
from pathlib import Path

import pytest

from metarec_ray.data.store import manifest
from metarec_ray.data.store.manifest import FileEntry
from metarec_ray.errors import DataError


def test_a_manifest_is_read_back_as_it_was_written(synthetic_store: Path, tmp_path: Path) -> None:
    found = manifest.load(synthetic_store)
    manifest.save(tmp_path, found)
    assert manifest.load(tmp_path) == found
    manifest.verify(synthetic_store, found)


def test_counts_account_for_every_row(synthetic_store: Path) -> None:
    found = manifest.load(synthetic_store)
    counts = found.counts
    aside = counts.filtered + counts.collapsed + sum(counts.quarantined.values())
    assert counts.rows_in == counts.kept + aside
    assert sum(found.parts.values()) == found.tasks
    assert found.summary()["store_sha256"] == found.store_sha256


def test_a_folder_without_a_manifest_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold manifest.json, none can be read"):
        manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "a manifest must be JSON"),
        (b"\xff\xfe\x00", "a manifest must be JSON"),
        (b"[]", "must have schema version 3, got None"),
        (b'{"schema_version": 1}', "must have schema version 3, got 1"),
        (b'{"schema_version": 3}', "a manifest must be complete: version"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        manifest.load(tmp_path)


def test_a_flipped_byte_is_found_and_its_file_named(tmp_path: Path, synthetic_store: Path) -> None:
    found = manifest.load(synthetic_store)
    shutil.copytree(synthetic_store, tmp_path, dirs_exist_ok=True)
    manifest.verify(tmp_path, found)
    content = bytearray(found.file(tmp_path, "items.parquet").read_bytes())
    content[20] ^= 1
    found.file(tmp_path, "items.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"sha256 of items.parquet must be .*, got"):
        manifest.verify(tmp_path, found)
    manifest.verify(tmp_path, found, ["bucket-00001.parquet", "entities.parquet"])
    found.file(tmp_path, "bucket-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"bucket-00001.parquet is missing"):
        manifest.verify(tmp_path, found)


def test_the_hash_of_a_store_leaves_out_its_quarantine() -> None:
    entry = FileEntry(rows=1, sha256="ab", path="v000001/one")
    files = {"items.parquet": entry, "quarantine.parquet": entry}
    assert manifest.store_hash(files) == manifest.store_hash({"items.parquet": entry})


def test_the_hash_of_json_ignores_the_order_of_keys() -> None:
    one = json.loads('{"a": 1, "b": [2]}')
    assert manifest.sha256_json(one) == manifest.sha256_json({"b": [2], "a": 1})
