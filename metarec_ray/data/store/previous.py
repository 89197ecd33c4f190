"""The present version of a store, read back as rows of a log: what an append adds to.

Knows the files of a store; does not know what is new in the log.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from metarec_ray.data.fields import FeatureField
from metarec_ray.data.log.features.encode import Encoder
from metarec_ray.data.settings import DOMAIN, Data
from metarec_ray.data.store.bucket_rows import OLD_SEQUENCE, Summary, summarise
from metarec_ray.data.store.manifest import (
    ENTITIES,
    ITEMS,
    QUARANTINE,
    VOCABULARIES,
    FileEntry,
    Manifest,
    bucket_name,
    load,
)
from metarec_ray.data.store.mappings import Mappings
from metarec_ray.data.store.writing import RowCounts


class Previous(NamedTuple):
    """The version that is added to."""

    store: Path
    manifest: Manifest

    def rows(self, bucket: int) -> pl.DataFrame:
        """Return the events of a bucket in canonical columns, with raw ids.

        Values of the context that were not in the vocabulary are missing.
        """
        table = self.table(bucket_name(bucket))
        lists = [n for n in ("item", "label", "time") if n in table.columns]
        told = [n for n in table.columns if n.startswith(("context.", "label."))]
        flat = table.select("task_id", *lists, *told).explode(*lists, *told)
        flat = flat.rename({"item": "number"}).with_columns(
            pl.int_range(pl.len()).add(OLD_SEQUENCE).alias("sequence")
        )
        mappings = self.mappings()
        assert mappings.entities is not None
        assert mappings.items is not None
        items = mappings.items.rename({"item": "number", "id": "item"})
        flat = flat.join(mappings.entities, on="task_id", maintain_order="left")
        flat = flat.join(items, on="number", maintain_order="left")
        decoded = [
            _decoded(flat[f"context.{name}"], encoder)
            for name, encoder in mappings.encoders["context"].items()
        ]
        clock = ["time"] if "time" in lists else []
        domain = [DOMAIN] if DOMAIN in mappings.items.columns else []
        return flat.with_columns(decoded).select(
            "entity", "item", "label", *clock, "sequence", *domain, *sorted(told)
        )

    def summary(self, bucket: int) -> Summary:
        """Return the summary of a bucket."""
        return summarise(self.rows(bucket))

    def entities(self, columns: list[str]) -> pl.DataFrame:
        """Return task_id, bucket and these columns of the bucket files, of all entities."""
        tables = [
            self.table(bucket_name(number), ["task_id", *columns]).with_columns(bucket=number)
            for number in range(self.manifest.buckets)
        ]
        return pl.concat(tables)

    def buckets(self) -> dict[str, FileEntry]:
        """Return the entries of all bucket files, by name."""
        files = self.manifest.files.items()
        return {name: entry for name, entry in files if name.startswith("bucket-")}

    def added(self, rows: RowCounts) -> RowCounts:
        """Return the counts of this version and of the added rows together."""
        counts = self.manifest.counts
        return RowCounts(
            rows_in=counts.rows_in + rows.rows_in,
            filtered=counts.filtered + rows.filtered,
            collapsed=counts.collapsed + rows.collapsed,
            rejected=chain(self._quarantined(), rows.rejected),
        )

    def _quarantined(self) -> Iterator[pl.DataFrame]:
        file = pq.ParquetFile(self.manifest.file(self.store, QUARANTINE))
        for batch in file.iter_batches():
            yield pl.DataFrame(pa.Table.from_batches([batch]))

    def mappings(self) -> Mappings:
        """Return the numbers and encoders of the version; `items` have their domain, if any."""
        return _mappings(self.store, self.manifest.version, self.manifest.key())

    def table(self, name: str, columns: list[str] | None = None) -> pl.DataFrame:
        """Return columns of a Parquet file of the version, all by default."""
        return pl.DataFrame(pq.read_table(self.manifest.file(self.store, name), columns=columns))


@lru_cache(maxsize=1)
def _mappings(store: Path, version: int, key: str) -> Mappings:
    """Return the mappings of a version, cached: each bucket of a process needs them.

    `key` is the manifest's own: another store may be made at the same place.
    """
    previous = Previous(store, load(store, version))
    assert previous.manifest.key() == key
    settings = Data.model_validate(previous.manifest.settings)
    entity, item = previous.manifest.ids
    entity = entity if settings.session_gap is None else "text"
    entities = _typed(previous.table(ENTITIES, ["id", "task_id"]), entity)
    words = json.loads(previous.manifest.file(store, VOCABULARIES).read_text("utf-8"))
    encoders: dict[str, dict[str, Encoder]] = {
        side: {field.name: _encoder(field, words[side]) for field in fields}
        for side, fields in previous.manifest.features.items()
    }
    items = _typed(_items(previous, settings, encoders), item)
    return Mappings(entities.rename({"id": "entity"}), items, encoders)


def _items(
    previous: Previous, settings: Data, encoders: dict[str, dict[str, Encoder]]
) -> pl.DataFrame:
    """Return id and item, and the domain if the log has one."""
    if settings.roles.domain is None:
        return previous.table(ITEMS, ["id", "item"])
    items = previous.table(ITEMS, ["id", "item", DOMAIN])
    return items.with_columns(_decoded(items[DOMAIN], encoders["item"][DOMAIN]))


def _typed(table: pl.DataFrame, kind: str) -> pl.DataFrame:
    return table.cast({"id": pl.Int64()}) if kind == "integer" else table


def _encoder(field: FeatureField, words: dict[str, list[str]]) -> Encoder:
    return Encoder(field, words.get(field.name, []))


def _decoded(column: pl.Series, encoder: Encoder) -> pl.Series:
    """Return an encoded column in canonical form; a value that was unknown is missing."""
    if not encoder.field.kind.endswith("categorical"):
        return column
    values = pl.DataFrame(
        {"index": range(1, len(encoder.vocabulary) + 1), "value": encoder.vocabulary},
        schema={"index": pl.Int32, "value": pl.String},
    )
    rows = pl.DataFrame({"row": range(len(column)), "index": column})
    if encoder.field.kind == "categorical":
        found = rows.join(values, on="index", how="left", maintain_order="left")["value"]
        return found.alias(column.name)
    flat = rows.explode("index").join(values, on="index", how="inner").sort("row", "index")
    lists = flat.group_by("row", maintain_order=True).agg("value")
    joined = rows.select("row").join(lists, on="row", how="left", maintain_order="left")
    return joined["value"].alias(column.name)
