import polars as pl

from metarec_ray.data.settings import Feature
from metarec_ray.data.store.split import Split
from metarec_ray.data.store.training_rows import summarise_training

ROWS = pl.DataFrame(
    {
        "entity": ["train", "train", "train", "valid", "test"],
        "item": [1, 2, 3, 4, 5],
        "time": [10, 20, 30, 10, 10],
        "context.hour": ["a", "b", "c", "d", "e"],
        "context.heat": pl.Series([1.0, 2.0, 4.0, 8.0, 16.0], dtype=pl.Float32),
    }
)
ENTITIES = pl.DataFrame({"entity": ["train", "valid", "test"], "part": ["train", "valid", "test"]})
FEATURES = {
    "context.hour": Feature(kind="categorical"),
    "context.heat": Feature(kind="numeric"),
}


def test_only_training_rows_are_summed_up() -> None:
    # Item 2 is cold, item 3 is met at the cutoff, item 5 by a test entity.
    split = Split(ENTITIES, 30, has_time=True, cold=pl.DataFrame({"item": [2]}))
    found = summarise_training(ROWS, split, FEATURES)
    assert found.items["item"].to_list() == [1, 4]
    assert found.columns["context.hour"].values == {"a", "d"}
    assert found.columns["context.heat"].numbers == ((1.0, 1), (8.0, 1))


def test_without_a_cutoff_all_times_are_training_times() -> None:
    split = Split(ENTITIES, None, has_time=True, cold=pl.DataFrame({"item": [2]}))
    assert summarise_training(ROWS, split, {}).items["item"].to_list() == [1, 3, 4]


def test_the_last_events_of_an_entity_are_no_training_rows_where_they_are_held_out() -> None:
    # Entity train keeps item 1; the others have too few events to keep one, cold or not.
    split = Split(ENTITIES, None, True, cold=pl.DataFrame({"item": [2]}), held_last=2)
    assert summarise_training(ROWS, split, {}).items["item"].to_list() == [1]
