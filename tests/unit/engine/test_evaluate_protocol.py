"""Protocols of ratings on a named store: the rows, and what they refuse in one sentence."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from metarec_ray.checkpoint import save, step_path
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.training.fit import fit

LOG = pl.DataFrame(
    [
        {"user": user, "item": item, "stars": float(1 + (user * item + user // 7) % 5)}
        for user in range(60)
        for item in range(user % 3, 50, 2)
    ]
)


def experiment(folder: Path, **data: Any) -> Experiment:
    LOG.write_parquet(folder / "log.parquet")
    tree = {
        "run": {"dir": str(folder / "run"), "store": str(folder / "store")},
        "data": {
            "path": str(folder / "log.parquet"),
            "feedback": "explicit",
            "columns": {"label": "stars"},
            "buckets": 1,
            "cold_items": 0.3,
            **data,
        },
        "evaluate": {
            "force": True,
            "resamples": 100,
            "ratings": {"query_size": 6, "min_ratings": 8},
            "item_kshot": {"ks": [0, 2], "min_ratings": 9},
        },
    }
    asked = parse(tree, "here")
    build_store(read_log(asked.data), asked.data, asked.store)
    return asked


def rows(asked: Experiment, protocol: str) -> list[dict[str, Any]]:
    # Here and not above: with it come ray.data and ray.train, two seconds, and of several workers
    # one needs them.
    from metarec_ray.engine.evaluate_protocol import protocol_rows

    return protocol_rows(asked, None, protocol, data_dir=None, progress=lambda line: None)


def test_melu_judges_any_ratings_by_their_own_test_users_and_cold_items(tmp_path: Path) -> None:
    found = rows(experiment(tmp_path), "melu")
    scenarios = list(dict.fromkeys(row["scenario"] for row in found))
    assert scenarios == ["user_cold", "item_cold", "item_cold_history", "both_cold"]
    assert list(dict.fromkeys(row["method"] for row in found)) == [
        "constant",
        "user_item_bias",
        "eb_ridge",
    ]
    assert all(row["protocol"] == "melu" and "rmse" in row and "k" not in row for row in found)


def test_item_kshot_judges_new_items_at_every_k(tmp_path: Path) -> None:
    found = rows(experiment(tmp_path, entity="item", cold_items=0.0), "item_kshot")
    assert [(row["method"], row["k"]) for row in found[:2]] == [("constant", 0), ("constant", 2)]
    assert all("scenario" not in row for row in found)


def test_entities_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.entity must be item here, got user"):
        rows(experiment(tmp_path), "item_kshot")
    with pytest.raises(ConfigError, match=r"data\.entity must be user here, got item"):
        rows(experiment(tmp_path, entity="item"), "melu")


def test_a_log_without_ratings_is_refused(tmp_path: Path) -> None:
    asked = experiment(tmp_path, feedback="implicit", columns=None)
    with pytest.raises(ConfigError, match=r"melu .*explicit or binary feedback, got implicit"):
        rows(asked, "melu")


def test_a_trained_method_stands_for_the_standard_one_of_its_name(tmp_path: Path) -> None:
    from metarec_ray.engine.evaluate import evaluate

    asked = experiment(tmp_path)
    changed = override(asked, {"algorithm": {"name": "user_item_bias", "user_shrink": 1000.0}})
    store = TaskStore.open(asked.store)
    path = step_path(changed.directory / "checkpoints", 0)
    save(fit(changed, store), path)
    found = evaluate(
        path,
        protocol="melu",
        rivals_only=False,
        overrides=(),
        data_dir=None,
        progress=lambda line: None,
    )
    ours = [row for row in found.rows if row["method"] == "user_item_bias"]
    conditions = {(row.get("k"), row.get("scenario")) for row in found.rows}
    assert len(ours) == len(conditions)
    assert all(row["seeds"] == [0] for row in ours)
