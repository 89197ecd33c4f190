import json
import os
from pathlib import Path

import polars as pl
import pytest

from metarec_ray.data.log import sources
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data
from metarec_ray.errors import DataError

DAY = 86_400
LINES = [f"7 12|{3 * DAY} 30|{3 * DAY} 11|{5 * DAY}", f"8 30|{4 * DAY}"]
ITEMS = {"B01": [11, 0], "B02": [12, 0], "B03": [30, 1], "B04": [31, 1]}


def shop(folder: Path, lines: list[str] = LINES, items: object = ITEMS) -> Data:
    (folder / "afk_50_preprocessed.txt").write_text("\n".join(lines) + "\n")
    (folder / "map_item_50.txt").write_text(json.dumps(items))
    return Data(path=str(folder))


def test_a_line_is_the_history_of_a_user_in_file_order(tmp_path: Path) -> None:
    log = read_log(shop(tmp_path))
    assert log.events.select("entity", "item", "time", "sequence").rows() == [
        (7, 12, 3 * DAY * 1_000_000, 0),
        (7, 30, 3 * DAY * 1_000_000, 1),
        (7, 11, 5 * DAY * 1_000_000, 2),
        (8, 30, 4 * DAY * 1_000_000, 3),
    ]
    assert log.users is None


def test_items_carry_their_shop_and_its_number(tmp_path: Path) -> None:
    items = read_log(shop(tmp_path)).items
    assert items is not None
    assert items.select("id", "title", "domain").rows() == [
        (11, "B01", "food"),
        (12, "B02", "food"),
        (30, "B03", "kitchen"),
        (31, "B04", "kitchen"),
    ]


@pytest.mark.parametrize("line", ["9", "9 12", "9 12|a", "9 12|3|4", "x 12|3"])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match=r"a line must be .*, line 3 is not \(.*afk_50"):
        read_log(shop(tmp_path, [*LINES, line]))


@pytest.mark.parametrize("items", [[1], {"B01": 3}, {"B01": [1, 2]}])
def test_a_broken_map_of_items_is_named(tmp_path: Path, items: object) -> None:
    with pytest.raises(DataError, match=r"items must be JSON of number .*map_item_50\.txt is not"):
        read_log(shop(tmp_path, items=items))


def test_purchases_are_no_ratings(tmp_path: Path) -> None:
    asked = shop(tmp_path).model_copy(update={"feedback": "explicit"})
    with pytest.raises(DataError, match=r"data\.feedback must be implicit, got explicit"):
        sources.find(asked)


def test_a_set_that_cannot_be_fetched_must_lie_in_the_data_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing amazon-food-kitchen/afk_50.*map_item_50\.txt$"):
        sources.find(Data(path="amazon-food-kitchen"), data_dir=tmp_path)


@pytest.mark.skipif("METAREC_DATA" not in os.environ, reason="needs METAREC_DATA")
def test_the_published_pair_of_shops_is_read_whole() -> None:
    folder = Path(os.environ["METAREC_DATA"])
    if not (folder / "amazon-food-kitchen").is_dir():
        pytest.skip("needs amazon-food-kitchen in METAREC_DATA")
    log = read_log(Data(path="amazon-food-kitchen"), data_dir=folder)
    assert (len(log.events), log.events["entity"].n_unique()) == (173_548, 7_144)
    assert log.items is not None
    assert sorted(log.items.group_by("domain").len().rows()) == [
        ("food", 11_837),
        ("kitchen", 16_258),
    ]
    assert log.events.select(pl.col("time") % (DAY * 1_000_000)).sum().item() == 0
