import polars as pl

from metarec_ray.data.settings import Data
from metarec_ray.data.store import split


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
