"""Read a task store: histories and catalogue as tensors.

Knows the files of a store and the cutoff; does not know tasks, windows or learners.
"""

import copy
import json
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from metarec_ray.core.batch import Features
from metarec_ray.core.histories import Histories
from metarec_ray.data.fields import COLD
from metarec_ray.data.files.memory_mapped import in_memory, mapped
from metarec_ray.data.settings import HELD_LAST
from metarec_ray.data.store.manifest import (
    ENTITIES,
    ITEMS,
    VOCABULARIES,
    Manifest,
    bucket_name,
    existing,
    load,
    verify,
)
from metarec_ray.data.tasks.features import FeatureSpace
from metarec_ray.data.tasks.folds import Fold, fold_of_entities
from metarec_ray.data.tasks.further_labels import LabelSpace
from metarec_ray.data.tasks.gathering import Buckets, EventFilter, gather

PARTS = ("train", "valid", "test")


class ItemTable(NamedTuple):
    """The catalogue; row i is the item that histories call i."""

    ids: list[str]
    titles: list[str | None]
    features: Features
    cold: Tensor  # bool [I]: held out of training


class TaskStore:
    """A task store opened for reading.

    Files are verified once: buckets when they are first read, the others on opening. Cached
    histories were verified when the cache was made.
    """

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.manifest = manifest
        self.vocabularies: dict[str, dict[str, list]] = json.loads(
            manifest.file(path, VOCABULARIES).read_text("utf-8")
        )
        self.user_space = FeatureSpace(manifest.features["user"])
        self.item_space = FeatureSpace(manifest.features["item"])
        self.context_space = FeatureSpace(manifest.features["context"])
        self.label_space = LabelSpace(manifest.features.get("label", ()))
        self.items = self._read_items()
        self._learned = ~self.items.cold
        self._without: Fold | None = None
        self._cache: Path | None = None
        self._verified: set[str] = set()

    @classmethod
    def open(
        cls, path: Path, version: int | None = None, *, cache: Path | None = None
    ) -> "TaskStore":
        """Return a version of the store at `path`, by default the present one.

        With a local folder as `cache`, histories are made once and memory-mapped from there.

        Raises:
            DataError: a file is missing, or one besides the buckets is damaged.

        """
        manifest = load(path, version)
        buckets = [bucket_name(number) for number in range(manifest.buckets)]
        for name in buckets:
            existing(path, manifest, name)
        verify(path, manifest, manifest.files.keys() - set(buckets))
        store = cls(path, manifest)
        if cache is not None:
            store._cache = cache / manifest.key()
        return store

    def file(self, name: str) -> Path:
        """Return the path of a file of the store, by its name."""
        return self.manifest.file(self.path, name)

    def restricted(self, items: Tensor) -> "TaskStore":
        """Return the same store whose cut histories have events on `items` (bool [I]) only.

        To train on one domain: uncut histories, ids and features are the same.
        """
        view = copy.copy(self)
        view._learned = self._learned & items
        view._cache = None  # the cached histories are not restricted
        return view

    def without(self, fold: Fold | None) -> "TaskStore":
        """Return the same store whose histories are of the entities outside a fold only.

        None for all of them. Task ids, ids and features are the same.
        """
        view = copy.copy(self)
        view._without = fold
        return view

    @property
    def held_last(self) -> bool:
        """Whether the last events of every history are held out, and no entity."""
        return self.manifest.settings.get("split") == "last"

    def histories(self, parts: Sequence[str] = PARTS, *, cut: bool = True) -> Histories:
        """Return the histories of the entities of `parts`, in the order of their task ids.

        With `cut`, only what may be learned from: no events at or after the cutoff, on cold items,
        or outside a restriction; entities may then have no event. Where the last events are held
        out, all entities are of every part: with `cut` the last event is left out, and without
        `valid` among the parts the one before, too. Needs the memory of the result, of one bucket,
        and of a few numbers an entity.

        Raises:
            DataError: a bucket is missing or damaged.

        """
        keep = self._kept(parts, cut=cut)
        buckets = Buckets(
            range(self.manifest.buckets),
            self._bucket,
            self.manifest.has_time,
            user=self.user_space,
            context=self.context_space,
            labels=self.label_space,
        )
        made = partial(gather, buckets, keep)
        if self._cache is None:
            return self._outside(self._joined(made(in_memory)))
        name = "-".join([*parts, *(["cut"] if cut else [])])
        return self._outside(self._joined(mapped(self._cache / name, made)))

    def _kept(self, parts: Sequence[str], *, cut: bool) -> EventFilter:
        held = 0
        if self.held_last:
            held = cut * (HELD_LAST - ("valid" in parts))
            parts = PARTS if parts else ()
        if not cut:
            return EventFilter(parts)
        return EventFilter(parts, self._learned.numpy(), self.manifest.cutoff, held)

    def trained_items(self) -> Tensor:
        """Return the items that train or valid entities met before the cutoff, bool [I]."""
        return self.histories(("train", "valid")).met_items()

    def entity_ids(self) -> list[str]:
        """Return the raw ids of all entities, by task id."""
        return pq.read_table(self.file(ENTITIES)).sort_by("task_id")["id"].to_pylist()

    def user_fields(self, task_id: int) -> dict[str, str]:
        """Return the categorical features of an entity that are known, as raw values."""
        fields: dict[str, str] = {}
        for name in self._categorical:
            index = self._users[f"user.{name}"][task_id].as_py()
            if index:
                fields[name] = self.vocabularies["user"][name][index - 1]
        return fields

    def _joined(self, columns: list[Tensor]) -> Histories:
        """Return the columns of `gather` as histories."""
        task_id, offsets, item, label, time, *features = columns
        labels = features[6] if self.label_space.names else label.new_zeros(len(label), 0)
        return Histories(
            task_id=task_id,
            offsets=offsets,
            item=item,
            label=label,
            time=time,
            context=Features(*features[:3]),
            users=self.user_space.side(Features(*features[3:6])),
            items=self.item_space.side(self.items.features),
            cutoff=self.manifest.cutoff,
            labels=labels,
        )

    def _outside(self, histories: Histories) -> Histories:
        """Return the histories of the entities outside the fold that is left out."""
        if self._without is None:
            return histories
        fold = fold_of_entities(self.manifest.tasks, self._without.folds)[histories.task_id]
        return histories.take((fold != self._without.fold).nonzero().flatten())

    def _read_items(self) -> ItemTable:
        table = pq.read_table(self.file(ITEMS)).sort_by("item")
        columns = {field.name: table[field.name] for field in self.manifest.features["item"]}
        cold = torch.zeros(len(table), dtype=torch.bool)
        if COLD in table.column_names:
            cold |= torch.from_numpy(table[COLD].to_numpy().copy())
        return ItemTable(
            cold=cold,
            ids=table["id"].to_pylist(),
            titles=table["title"].to_pylist(),
            features=self.item_space.encode(columns, len(table)),
        )

    @property
    def _categorical(self) -> list[str]:
        return [f.name for f in self.manifest.features["user"] if f.kind == "categorical"]

    @cached_property
    def _users(self) -> pa.Table:
        """The categorical features of all entities, encoded; row n is task n."""
        columns = ["task_id", *(f"user.{name}" for name in self._categorical)]
        tables = [self._bucket(number, columns) for number in range(self.manifest.buckets)]
        return pa.concat_tables(tables).sort_by("task_id")

    def _bucket(self, number: int, columns: Sequence[str]) -> pa.Table:
        """Return columns of a bucket, which is verified the first time."""
        name = bucket_name(number)
        if name not in self._verified:
            verify(self.path, self.manifest, [name])
            self._verified.add(name)
        return pq.read_table(existing(self.path, self.manifest, name), columns=list(columns))
