import numpy as np
import polars as pl
import pytest

from metarec_ray.data.store import bucket_rows

ROWS = pl.DataFrame(
    {
        "entity": ["u", "u", "u", "u", "v"],
        "item": [3, 1, 3, 2, 1],
        "label": pl.Series([1.0, 2.0, 5.0, 4.0, 3.0], dtype=pl.Float32),
        "time": [7, 5, 7, 5, 9],
        "sequence": [1, 4, 2, 0, 0],
    }
)


def test_a_shuffle_changes_the_order_inside_a_timestamp_only() -> None:
    rows = pl.DataFrame(
        {
            "entity": ["u"] * 40,
            "item": list(range(40)),
            "label": pl.Series([1.0] * 40, dtype=pl.Float32),
            "time": [at // 10 for at in range(40)],
            "sequence": list(range(40)),
        }
    )
    orders = [bucket_rows.deduplicate(rows, shuffle=seed)["item"].to_list() for seed in (0, 0, 1)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    for order in orders:
        assert order != list(range(40))
        assert [item // 10 for item in order] == [at // 10 for at in range(40)]
    mixed = rows.sample(fraction=1.0, shuffle=True, seed=3)
    assert bucket_rows.deduplicate(mixed, shuffle=0)["item"].to_list() == orders[0]


def tied(entities: list, sequence: list[int]) -> pl.DataFrame:
    """Ten events of each entity at one time, on items 0 to 9."""
    n = len(entities)
    return pl.DataFrame(
        {
            "entity": [entity for entity in entities for _ in range(10)],
            "item": list(range(10)) * n,
            "label": pl.Series([1.0] * (10 * n), dtype=pl.Float32),
            "time": [7] * (10 * n),
            "sequence": sequence * n,
        }
    )


@pytest.mark.parametrize("sequence", [[0] * 10, list(range(10))])
@pytest.mark.parametrize("entities", [[1, 2, 3], ["a", "b", "c"]])
def test_a_shuffle_needs_no_sequence_and_differs_between_entities(
    entities: list, sequence: list[int]
) -> None:
    found = bucket_rows.deduplicate(tied(entities, sequence), shuffle=0)
    orders = [tuple(of["item"]) for of in found.partition_by("entity", maintain_order=True)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(range(10)), *orders}) == 4
    alone = bucket_rows.deduplicate(tied(entities[1:2], sequence), shuffle=0)
    assert tuple(alone["item"]) == orders[1]


def test_events_are_sorted_by_time_then_sequence_then_item() -> None:
    found = bucket_rows.deduplicate(ROWS)
    assert found["item"].to_list() == [2, 1, 3, 1]


def test_of_a_repeated_event_the_last_by_sequence_is_kept() -> None:
    found = bucket_rows.deduplicate(ROWS).filter((pl.col("entity") == "u") & (pl.col("item") == 3))
    assert found["label"].to_list() == [5.0]


def test_of_a_repeated_event_without_sequence_the_largest_label_is_kept() -> None:
    same = ROWS.with_columns(sequence=pl.lit(0, pl.Int64), time=pl.lit(1, pl.Int64))
    for order in ([0, 2], [2, 0]):
        assert bucket_rows.deduplicate(same[order])["label"].to_list() == [5.0]


def test_the_order_of_rows_does_not_matter() -> None:
    whole = bucket_rows.deduplicate(ROWS)
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert bucket_rows.deduplicate(ROWS[rng.permutation(len(ROWS)).tolist()]).equals(whole)


def test_without_a_clock_an_item_counts_once() -> None:
    found = bucket_rows.deduplicate(ROWS.drop("time"))
    assert found.filter(pl.col("entity") == "u")["item"].to_list() == [2, 3, 1]


def test_a_history_is_cut_after_max_events_and_what_is_cut_is_counted() -> None:
    kept, rejected = bucket_rows.truncate(bucket_rows.deduplicate(ROWS), 2)
    assert kept["item"].to_list() == [2, 1, 1]
    assert rejected.select("value", "rows").rows() == [("u", 1)]


def test_the_bucket_of_an_id_is_that_of_its_text() -> None:
    numbers = bucket_rows.with_bucket(pl.DataFrame({"entity": [1, 2, 3]}), 8)["bucket"]
    texts = bucket_rows.with_bucket(pl.DataFrame({"entity": ["1", "2", "3"]}), 8)["bucket"]
    assert numbers.to_list() == texts.to_list()
