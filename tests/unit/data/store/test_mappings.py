import polars as pl

from metarec_ray.data.store.mappings import numbered


def test_new_ids_are_numbered_in_sorted_order() -> None:
    frame = pl.DataFrame({"id": ["c", "a", "b"], "first": [3, 1, 2]})
    found = numbered(frame, "id", "item", known=None)
    assert found.select("item", "id", "first").rows() == [(0, "a", 1), (1, "b", 2), (2, "c", 3)]


def test_known_ids_keep_their_numbers_and_new_ones_follow() -> None:
    known = pl.DataFrame({"id": ["c", "x", "a"], "item": [0, 1, 2]})
    frame = pl.DataFrame({"id": ["b", "a", "aa", "c"]})
    found = numbered(frame, "id", "item", known=known)
    # x has number 1 though it is not among the rows.
    assert found.select("item", "id").rows() == [(0, "c"), (2, "a"), (3, "aa"), (4, "b")]
