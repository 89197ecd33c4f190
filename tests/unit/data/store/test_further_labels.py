"""Further labels of events on their way from a log to histories, and through an append."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from metarec_ray.data.files.hashes import sha256_json
from metarec_ray.data.inspection.check import check
from metarec_ray.data.inspection.describe import describe
from metarec_ray.data.log import sources
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature
from metarec_ray.data.store import pipeline
from metarec_ray.data.store.append import append
from metarec_ray.data.store.manifest import bucket_name
from metarec_ray.data.store.planning import Run
from metarec_ray.data.store.writing import build_store, settings_hash
from metarec_ray.data.tasks.task_store import TaskStore

RUN = Run(map, map, lambda _: None)
HEAD = "user,item,stars,at,dwell,click\n"


def asking(log: Path, **more: Any) -> Data:
    fields = {
        "path": str(log),
        "feedback": "explicit",
        "columns": Columns(label="stars", time="at"),
        "labels": {"dwell": {}, "click": {}},
        "cutoff_quantile": 1.0,
        "buckets": 2,
    }
    return Data.model_validate(fields | more)


def rows(users: range) -> str:
    """Three events a user; the first was not clicked, the last has no dwell."""
    lines = [
        f"u{user},{item},{1 + (user + item) % 5},{10 * user + item},{dwell},{click}"
        for user in users
        for item, (dwell, click) in enumerate([(2.5 * user, 0), (90, 1), ("", 1)])
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def store(tmp_path: Path) -> TaskStore:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "1.csv").write_text(HEAD + rows(range(20)))
    pipeline.build(sources.find(asking(tmp_path / "log")), tmp_path / "store", RUN)
    return TaskStore.open(tmp_path / "store", cache=tmp_path / "cache")


def test_labels_are_ranks_among_training_rows_and_nan_where_missing(store: TaskStore) -> None:
    histories = store.histories()
    assert store.label_space.names == ["click", "dwell"]  # by name
    ids = store.entity_ids()
    fields = {field.name: field for field in store.manifest.features["label"]}
    raw: dict[str, list[float]] = {"click": [], "dwell": []}
    for task in histories.task_id.tolist():
        raw["click"] += [0, 1, 1]
        raw["dwell"] += [2.5 * int(ids[task][1:]), 90, math.nan]
    for column, name in enumerate(("click", "dwell")):
        place = np.interp(raw[name], fields[name].knots, fields[name].ranks)
        expected = torch.from_numpy((place - 0.5) * math.sqrt(12)).float()
        torch.testing.assert_close(histories.labels[:, column], expected, equal_nan=True)
    # A third of the clicks are 0: these rank at 1/6, the ones at 1/3 + 1/3.
    assert sorted(set(histories.labels[:, 0].tolist())) == pytest.approx(
        [(1 / 6 - 0.5) * math.sqrt(12), (2 / 3 - 0.5) * math.sqrt(12)]
    )
    again = TaskStore.open(store.path, cache=store.path.parent / "cache").histories()
    assert torch.equal(again.labels.isnan(), histories.labels.isnan())


def test_histories_keep_the_labels_of_the_events_they_keep(store: TaskStore) -> None:
    whole = store.histories()
    labels, lengths = whole.labels.nan_to_num(-9), whole.lengths()
    two = whole.take(torch.tensor([3, 1]))
    begin = whole.offsets
    rows = [*range(int(begin[3]), int(begin[4])), *range(int(begin[1]), int(begin[2]))]
    assert torch.equal(two.labels.nan_to_num(-9), labels[rows])
    first = whole.keep(whole.position() == 0)
    assert torch.equal(first.labels.nan_to_num(-9), labels[begin[:-1]])
    assert len(first.labels) == len(lengths)


def test_a_store_in_one_process_has_the_same_bytes(store: TaskStore, tmp_path: Path) -> None:
    asked = asking(tmp_path / "log")
    made = build_store(read_log(asked), asked, tmp_path / "alone")
    assert made.store_sha256 == store.manifest.store_sha256
    assert made.features == store.manifest.features
    columns = pl.read_parquet(store.file(bucket_name(0))).columns
    assert columns[-2:] == ["label.click", "label.dwell"]


def test_what_is_appended_has_labels_on_the_scale_that_the_store_has(
    store: TaskStore, tmp_path: Path
) -> None:
    before, path = store.histories(), store.path
    (tmp_path / "log" / "2.csv").write_text(HEAD + rows(range(20, 24)) + "u0,7,5,900,1e9,1\n")
    made = append(sources.find(asking(tmp_path / "log")), path, RUN)
    after = TaskStore.open(path).histories()
    assert made.features["label"] == store.manifest.features["label"]
    old = after.labels[: len(before.labels) + 1].nan_to_num(-9)
    # User 0, the first, has one event more: beyond all numbers of training, so at the highest rank.
    assert torch.equal(torch.cat([old[:3], old[4:]]), before.labels.nan_to_num(-9))
    assert after.labels[3, 1] == before.labels[:, 1].nan_to_num(-9).max()
    assert len(after.labels) == len(before.labels) + 13


def test_a_log_without_labels_has_the_bytes_and_hashes_it_always_had(
    store: TaskStore, tmp_path: Path
) -> None:
    without_key = Data().model_dump(mode="json", exclude={"path", "versions", "labels"})
    assert settings_hash(Data()) == sha256_json(without_key)
    bare = asking(tmp_path / "log", labels={})
    build_store(read_log(bare), bare, tmp_path / "bare")
    opened = TaskStore.open(tmp_path / "bare")
    assert set(opened.manifest.features) == set(opened.vocabularies) == {"user", "item", "context"}
    assert opened.histories().labels.shape == (60, 0)
    assert settings_hash(bare) != store.manifest.settings_sha256


def test_bad_labels_are_quarantined_and_missing_ones_are_not(tmp_path: Path) -> None:
    bad = "a,x,4,0,inf,0\na,y,4,1,nan,1\na,z,4,2,,\n"
    (tmp_path / "log.csv").write_text(HEAD + bad + rows(range(30)))
    found = check(sources.find(asking(tmp_path / "log.csv", max_bad_share=0.1)))
    assert found["quarantined"] == {"dwell is not a finite number": 1}
    assert found["first bad rows"] == ["row 0 of log.csv: dwell is not a finite number, got inf"]
    assert found["missing labels"] == {"click": 1, "dwell": 32}
    assert found["missing context"] == {}
    features = found["features"]
    assert isinstance(features, dict)
    assert features["label"] == ["dwell (numeric)", "click (numeric)"]


def test_a_store_says_which_labels_it_has(store: TaskStore) -> None:
    features = describe(store.path)["features"]
    assert isinstance(features, dict)
    assert features["label"] == ["click (numeric)", "dwell (numeric)"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"context": {"dwell": Feature(kind="numeric")}}, "context or of labels, got 'dwell'"),
        ({"labels": {"stars": {}}}, "must have no role, got 'stars' for label"),
        (
            {"context": {"stars": Feature(kind="numeric")}},
            "before the event, got 'stars' for label",
        ),
        ({"labels": {"dwell": {"kind": "vector"}}}, "kind"),
    ],
)
def test_a_column_cannot_be_known_before_and_after_its_event(
    more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        asking(Path("log.csv"), **more)
