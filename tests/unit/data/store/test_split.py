"""What a store holds out: entities by time or hash or none, and cold items."""

from pathlib import Path

import polars as pl
import pytest

from metarec_ray.data.id_hashes import HASH_SPAN, stable_hash
from metarec_ray.data.settings import Data, Feature
from metarec_ray.data.store import split
from metarec_ray.errors import DataError
from tests.unit.data.store.small import LOG, store


def test_the_last_to_begin_are_test_and_before_them_valid() -> None:
    # first times 0, 10, .., 190: the 0.8 quantile lies at 15.2 of 0..19, so 160 is the cutoff
    entities = pl.DataFrame({"entity": list(range(20)), "first": list(range(0, 200, 10))})
    part, cutoff = split.parts(entities, Data(valid_share=0.25), has_time=True)
    assert cutoff == 160
    assert part.to_list() == ["train"] * 12 + ["valid"] * 4 + ["test"] * 4  # 0.25 * 16 = 4


def test_entities_that_begin_together_are_held_out_by_task_id() -> None:
    entities = pl.DataFrame({"entity": list(range(10)), "first": [0] * 8 + [5, 5]})
    part, cutoff = split.parts(entities, Data(valid_share=0.25), has_time=True)
    assert cutoff == 5  # 0.8 * 9 = 7.2, rounded up to the entity at place 8
    assert part.to_list() == ["train"] * 6 + ["valid"] * 2 + ["test"] * 2


def test_without_a_clock_a_hash_of_the_id_decides_who_is_held_out() -> None:
    ids = [f"user {number}" for number in range(4000)]
    part, cutoff = split.parts(pl.DataFrame({"entity": ids}), Data(), has_time=False)
    assert cutoff is None
    shares = {name: (part == name).mean() for name in ("train", "valid", "test")}
    for name, share in {"train": 0.72, "valid": 0.08, "test": 0.2}.items():  # 0.8 * 0.9, 0.8 * 0.1
        assert abs(float(str(shares[name])) - share) < 0.03
    fewer, _ = split.parts(pl.DataFrame({"entity": ids[:50]}), Data(), has_time=False)
    assert fewer.to_list() == part[:50].to_list()


def test_a_quantile_of_one_leaves_no_test_entities_and_cuts_nothing(tmp_path: Path) -> None:
    for clock in (True, False):
        whole = store(tmp_path, clock=clock, cutoff_quantile=1.0)
        assert set(whole.manifest.parts) == {"train", "valid"}
        assert (whole.manifest.has_time, whole.manifest.cutoff) == (clock, None)
        assert len(whole.histories().item) == len(LOG)
    with pytest.raises(DataError, match=r"enough for train, valid and test, got 40"):
        store(tmp_path, cutoff_quantile=0.001)


def test_a_split_by_hash_keeps_the_clock_and_all_events(tmp_path: Path) -> None:
    whole = store(tmp_path, split="hash", cutoff_quantile=0.7)
    test = whole.histories(("test",)).task_id.tolist()
    expected = [u for u in range(1, 41) if stable_hash(u) / HASH_SPAN >= 0.7]
    assert [int(whole.entity_ids()[task]) for task in test] == expected
    assert whole.manifest.cutoff is None
    assert whole.histories().time.max() == 40 * 1_000_000


def test_cold_items_are_the_last_to_be_met_and_nothing_learns_from_them(tmp_path: Path) -> None:
    # First times 0..40 (item 0 at 1 s): place 0.75 * 40 = 30 of the sorted ones is that of item 30.
    whole = store(tmp_path, cold_items=0.25, cutoff_quantile=1.0)
    cold = [int(raw) for raw, c in zip(whole.items.ids, whole.items.cold, strict=True) if c]
    assert cold == list(range(30, 41))
    assert not whole.trained_items()[whole.items.cold].any()
    assert len(whole.histories(cut=False).item) - len(whole.histories().item) == 1 + 2 * 10
    # Item 40 alone is of kind 2: its value is unknown to a vocabulary of training.
    assert whole.vocabularies["item"]["kind"] == ["kind 0", "kind 1"]


def test_without_a_clock_a_hash_of_the_id_says_which_items_are_cold(tmp_path: Path) -> None:
    whole = store(tmp_path, clock=False, cold_items=0.25)
    cold = {int(raw) for raw, c in zip(whole.items.ids, whole.items.cold, strict=True) if c}
    assert cold == {i for i in range(41) if stable_hash(i) / HASH_SPAN >= 0.75}


def test_context_of_events_on_cold_items_is_not_in_the_vocabulary(tmp_path: Path) -> None:
    whole = store(
        tmp_path,
        cold_items=0.25,
        cutoff_quantile=1.0,
        context={"heat": Feature(kind="numeric"), "shelf": Feature(kind="categorical")},
    )
    assert set(whole.vocabularies["context"]["shelf"]) == {str(i) for i in range(30)}


def test_a_split_of_last_events_holds_out_no_entity_and_cuts_nothing_in_time() -> None:
    entities = pl.DataFrame({"entity": list(range(20)), "first": list(range(0, 200, 10))})
    for clock in (True, False):
        part, cutoff = split.parts(entities, Data(split="last"), has_time=clock)
        assert (part.to_list(), cutoff) == (["train"] * 20, None)
