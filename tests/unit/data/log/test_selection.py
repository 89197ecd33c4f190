"""`data.only` and `data.without`: which rows stay, and one sentence when a side file is wrong."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from metarec_ray.data.log import sources
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data
from metarec_ray.data.store.writing import build_store, settings_hash
from metarec_ray.errors import DataError

ROLES = Columns(label="rating", sequence="row")
LOG = pl.DataFrame(
    {
        "row": [0, 1, 2, 3, None],
        "user": [1, 1, 2, 2, 2],
        "item": [7, 8, 7, 8, 9],
        "rating": [5.0, 3.0, 4.0, 2.0, 1.0],
    }
)
SIDE = pl.DataFrame(
    {"row": [3, 2, 1, 0], "kind": ["cold", "warm", "warm", "warm"], "fold": [0, 1, 1, 0]}
)
WARM = {"path": "side/kinds.parquet", "column": "kind", "value": "warm"}
FOLD = {"path": "side/kinds.parquet", "column": "fold", "value": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "side").mkdir()
    SIDE.write_parquet(tmp_path / "side" / "kinds.parquet")
    LOG.write_parquet(tmp_path / "log.parquet")
    return tmp_path


def settings(folder: Path, **more: Any) -> Data:
    fields = {"path": str(folder / "log.parquet"), "feedback": "explicit", "columns": ROLES}
    return Data.model_validate(
        {
            **fields,
            "max_bad_share": 0.5,
            "buckets": 1,
            "cutoff_quantile": 0.6,
            "valid_share": 0.4,
            **more,
        }
    )


def test_only_keeps_the_rows_that_a_side_file_names(folder: Path) -> None:
    log = read_log(settings(folder, only=WARM))
    assert log.events["sequence"].to_list() == [0, 1, 2]
    assert (log.rows_in, log.filtered) == (5, 1)


def test_without_leaves_them_out_and_both_hold_together(folder: Path) -> None:
    log = read_log(settings(folder, without=FOLD))
    assert log.events["sequence"].to_list() == [0, 3]
    log = read_log(settings(folder, only=WARM, without=FOLD, label_min=1.0))
    assert log.events["sequence"].to_list() == [0]
    assert log.filtered == 3


def test_a_row_without_a_sequence_is_quarantined_as_ever(folder: Path) -> None:
    log = read_log(settings(folder, only=WARM))
    assert log.rejected.select("row", "reason").rows() == [(4, "sequence is missing")]


def test_a_store_counts_what_was_left_out_and_holds_the_rest(folder: Path) -> None:
    users = 20
    rows = pl.DataFrame({"row": range(users), "user": range(users), "item": 7, "rating": 3.0})
    rows.write_parquet(folder / "log.parquet")
    kinds = rows.select(
        "row", kind=pl.when(pl.col("row") < 4).then(pl.lit("cold")).otherwise(pl.lit("warm"))
    )
    kinds.write_parquet(folder / "side" / "kinds.parquet")
    asked = settings(folder, only=WARM)
    made = build_store(read_log(asked), asked, folder / "store")
    assert (made.counts.rows_in, made.counts.kept, made.counts.filtered) == (20, 16, 4)
    assert made.settings["only"] == WARM


def test_a_side_file_is_looked_for_in_the_data_folder_first(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "data"
    (other / "side").mkdir(parents=True)
    SIDE.head(1).with_columns(kind=pl.lit("warm")).write_parquet(other / "side" / "kinds.parquet")
    log = read_log(settings(folder, only=WARM), data_dir=other)
    assert log.events["sequence"].to_list() == [3]


def test_the_hashes_follow_the_setting_and_the_content_of_the_side_file(folder: Path) -> None:
    asked = settings(folder, only=WARM)
    assert settings_hash(asked) != settings_hash(settings(folder))
    before = sources.find(asked).fingerprint
    assert before != sources.find(settings(folder)).fingerprint
    SIDE.with_columns(kind=pl.lit("warm")).write_parquet(folder / "side" / "kinds.parquet")
    assert sources.find(asked).fingerprint != before


def test_a_side_file_below_the_folder_of_the_log_is_no_part_of_the_log(folder: Path) -> None:
    log = read_log(settings(folder, path=str(folder), only=WARM))
    assert log.rows_in == len(LOG)


def test_every_missing_file_of_a_partition_is_named_with_the_data_folder(folder: Path) -> None:
    only = {"path": "melu_protocol/scenario_by_row.parquet", "column": "scenario", "value": "warm"}
    missing = ", ".join(
        ["melu_protocol/scenario_by_row.parquet"]
        + [f"melu_protocol/tasks_seed{seed}.parquet" for seed in range(5)]
    )
    # By name, nothing is fetched before this is known.
    with pytest.raises(
        DataError,
        match=rf"^data.only reads .* data folder \S+/none \(METAREC_DATA\), missing {missing}$",
    ):
        sources.find(settings(folder, path="ml-1m", only=only), data_dir=folder / "none")
    with pytest.raises(DataError, match=r"^data.without reads .* missing side/nothing.csv$"):
        sources.find(settings(folder, without={**WARM, "path": "side/nothing.csv"}))


def test_a_side_file_must_fit_the_log(folder: Path) -> None:
    for more, message in (
        ({"only": {**WARM, "value": "hot"}}, r"must name some row, .* has none with kind = 'hot'"),
        ({"only": {**WARM, "column": "sort"}}, r"column 'sort' must exist"),
        (
            {"only": WARM, "columns": Columns(label="rating")},
            r"data.columns.sequence must be named",
        ),
    ):
        with pytest.raises(DataError, match=message):
            read_log(settings(folder, **more))
    SIDE.cast({"row": pl.Float64}).write_parquet(folder / "side" / "kinds.parquet")
    with pytest.raises(
        DataError, match=r"sequence numbers must be integers, got Float64 \(column row"
    ):
        read_log(settings(folder, only=WARM))
