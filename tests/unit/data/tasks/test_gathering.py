"""Histories beside a plain reading of all bucket files: every kind of feature, part and cut."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from metarec_ray.core.batch import Features
from metarec_ray.core.histories import Histories
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store.manifest import bucket_name
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.features import FeatureSpace
from metarec_ray.data.tasks.task_store import PARTS, TaskStore
from metarec_ray.errors import DataError

FEATURES = {
    "word": Feature(kind="categorical"),
    "bag": Feature(kind="multi_categorical"),
    "other_bag": Feature(kind="multi_categorical", separator="|"),
    "number": Feature(kind="numeric"),
    "place": Feature(kind="vector"),
}
CASES = [("train",), ("valid",), ("test",), ("train", "valid"), PARTS, ()]


def fields(seed: int, wide: int) -> dict[str, object]:
    """Return a value of each kind, some of them missing; a bag of `wide` tokens."""
    return {
        "word": None if seed % 5 == 0 else f"w{seed % 7}",
        "bag": [f"t{(seed + n) % 6}" for n in range(wide)] or None,
        "other_bag": "a|b" if seed % 11 == 0 else "",
        "number": None if seed % 3 == 0 else seed / 7,
        "place": None if seed % 6 == 0 else [seed / 3, -seed / 9],
    }


# User u begins at u, and those from 30 on are test: what comes late has wider bags, is cut too, and
# theirs are the widest.
LOG = pl.DataFrame(
    [
        {"user": user, "item": (user * 7 + n * n) % 31, "stars": float(1 + (user + n) % 5)}
        | {"time": user + 3 * n}
        | fields(5 * user + n, n // 3 + user // 30 * 2)
        for user in range(50)
        for n in range(1 + user % 12)
    ],
    infer_schema_length=None,
)
PEOPLE = pl.DataFrame(
    [
        {"id": user, **fields(user * 4 + 1, user % 3 + user // 30 * 2)}
        for user in range(50)
        if user % 9
    ],
    infer_schema_length=None,
)


def build(folder: Path, *, buckets: int, clock: bool = True, features: bool = True) -> Path:
    LOG.write_parquet(folder / "log.parquet")
    PEOPLE.write_parquet(folder / "users.parquet")
    chosen = FEATURES if features else {}
    asked = Data(
        path=str(folder / "log.parquet"),
        feedback="explicit",
        columns=Columns(label="stars", time="time" if clock else None),
        context=chosen,
        users=SideTable(path="users.parquet", id="id", features=chosen),
        cutoff_quantile=0.6,
        valid_share=0.3,
        cold_items=0.2,
        buckets=buckets,
    )
    build_store(read_log(asked), asked, folder / "store")
    return folder / "store"


def plainly(
    store: TaskStore, parts: tuple[str, ...], *, cut: bool, items: torch.Tensor
) -> Histories:
    """Return the histories as one reads the files: all rows, sorted, exploded, filtered."""
    files = [store.file(bucket_name(number)) for number in range(store.manifest.buckets)]
    rows = pl.concat([pl.read_parquet(file) for file in files])
    rows = rows.filter(pl.col("part").is_in(parts)).sort("task_id")
    clock = ["time"] if store.manifest.has_time else []
    context = [name for name in rows.columns if name.startswith("context.")]
    events = rows.select("task_id", "item", "label", *clock, *context)
    events = events.explode(events.columns[1:], empty_as_null=False)
    if not clock:
        events = events.with_columns(time=pl.lit(0, pl.Int64))
    allowed = pl.col("item").is_in(items.nonzero().flatten().tolist())
    early = pl.col("time") < (2**62 if store.manifest.cutoff is None else store.manifest.cutoff)
    kept = events.filter(allowed, early) if cut else events
    sizes = rows.select("task_id").join(
        kept.group_by("task_id").len(), on="task_id", how="left", maintain_order="left"
    )
    return Histories(
        task_id=torch.tensor(rows["task_id"].to_list(), dtype=torch.int64),
        offsets=torch.tensor([0, *sizes["len"].fill_null(0).cum_sum().to_list()]),
        item=torch.tensor(kept["item"].to_list(), dtype=torch.int64),
        label=torch.tensor(kept["label"].to_list(), dtype=torch.float32),
        time=torch.tensor(kept["time"].to_list(), dtype=torch.int64),
        context=encoded(store.context_space, kept, events, "context"),
        users=store.user_space.side(encoded(store.user_space, rows, rows, "user")),
        items=store.item_space.side(store.items.features),
        cutoff=store.manifest.cutoff,
    )


def encoded(space: FeatureSpace, rows: pl.DataFrame, whole: pl.DataFrame, side: str) -> Features:
    """Return features value by value; bags are as wide as the widest of the `whole`."""
    tokens: list[list[int]] = [[] for _ in range(len(rows))]
    weights: list[list[float]] = [[] for _ in range(len(rows))]
    dense: list[list[float]] = [[] for _ in range(len(rows))]
    for field in space.fields:
        name = f"{side}.{field.name}"
        bags = field.kind == "multi_categorical"
        width = max([1, *whole[name].list.len()]) if bags else 1
        for row, value in enumerate(rows[name].to_list()):
            if field.kind == "numeric":
                place = 0.5 if value is None else np.interp(value, field.knots, field.ranks)
                dense[row] += [(place - 0.5) * math.sqrt(12)]
            elif field.kind == "vector":
                dense[row] += [0.0] * field.dim if value is None else value
            else:
                bag = value if bags else [value]
                empty = width - len(bag)
                tokens[row] += [space.first_row[field.name] + each for each in bag] + [0] * empty
                weights[row] += [1 / math.sqrt(len(bag)) for _ in bag] + [0.0] * empty
    columns = zip((tokens, weights, dense), (torch.int64, *[torch.float32] * 2), strict=True)
    return Features(*(torch.tensor(values, dtype=kind) for values, kind in columns))


def same(found: Histories, expected: Histories) -> bool:
    pairs = zip(
        [*found[:5], *found.context, *found.users.features],
        [*expected[:5], *expected.context, *expected.users.features],
        strict=True,
    )
    # An empty list of rows says nothing of how wide they would be.
    return all(a.dtype == b.dtype and torch.equal(a, b.reshape(a.shape)) for a, b in pairs)


@pytest.mark.parametrize(
    ("buckets", "clock", "features"), [(1, True, True), (4, False, True), (4, True, False)]
)
def test_histories_are_those_of_a_plain_reading(
    tmp_path: Path, buckets: int, clock: bool, features: bool
) -> None:
    path = build(tmp_path, buckets=buckets, clock=clock, features=features)
    plain, cached = (TaskStore.open(path, cache=c) for c in (None, tmp_path / "cache"))
    some = torch.arange(len(plain.items.ids)) % 3 > 0
    for parts in CASES:
        for cut in (True, False):
            expected = plainly(plain, parts, cut=cut, items=~plain.items.cold)
            for store in (plain, cached, cached):
                assert same(store.histories(parts, cut=cut), expected)
        expected = plainly(plain, parts, cut=True, items=some & ~plain.items.cold)
        assert same(plain.restricted(some).histories(parts), expected)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    return TaskStore.open(build(tmp_path_factory.mktemp("eight"), buckets=8))


def test_the_store_of_these_tests_holds_what_they_are_about(store: TaskStore) -> None:
    whole, cut = store.histories(cut=False), store.histories()
    assert 0 < len(cut.item) < len(whole.item) == len(LOG)
    assert int(cut.lengths().min()) == 0
    assert bool(store.items.cold.any())
    # Bags: `bag` is the first field. Its last column is padding where the widest are cut, and parts
    # and buckets differ in their widest.
    widths = {part: store.histories((part,), cut=False).context.tokens.shape[1] for part in PARTS}
    assert widths["train"] < widths["test"] == whole.context.tokens.shape[1]
    train = store.histories(("train",))
    assert train.context.tokens.shape[1] == widths["train"]
    assert not train.context.weights[:, 2].any()
    assert store.histories(("train",), cut=False).context.weights[:, 2].any()
    ids = [pl.read_parquet(store.file(bucket_name(n)))["task_id"].to_list() for n in range(8)]
    assert all(max(one) > min(other) for one, other in pairwise(ids))


def test_known_words_of_a_user_are_those_of_the_table(store: TaskStore) -> None:
    known = set(store.vocabularies["user"]["word"])
    words = dict(PEOPLE.select("id", "word").rows())
    for task, user in enumerate(store.entity_ids()):
        word = words.get(int(user))
        assert store.user_fields(task) == ({"word": word} if word in known else {})


def test_a_bucket_is_refused_when_it_is_read_and_a_cache_reads_none(tmp_path: Path) -> None:
    path = build(tmp_path, buckets=3)
    warm = TaskStore.open(path, cache=tmp_path / "cache")
    expected = warm.histories(("train",))
    torn = warm.file(bucket_name(2))
    torn.write_bytes(b"torn")
    opened = TaskStore.open(path, cache=tmp_path / "cache")
    assert same(opened.histories(("train",)), expected)
    for read in (opened.histories, lambda: opened.user_fields(0)):
        with pytest.raises(DataError, match=r"sha256 of bucket-00002.parquet must be"):
            read()
    assert [file.name for file in (tmp_path / "cache").rglob("shapes.json")] == ["shapes.json"]
