import json
from itertools import count

import pytest
import torch
from torch import Tensor

from metarec_ray.config.experiment import Evaluate
from metarec_ray.core.batch import Features
from metarec_ray.errors import DataError, NotFinite
from metarec_ray.evaluation.protocols.strict import StrictTasks
from metarec_ray.evaluation.scoring import Method
from metarec_ray.evaluation.table.ranking_measures import Condition, Measured
from metarec_ray.evaluation.table.rows import Header, Row, evaluate, judge
from metarec_ray.evaluation.table.text import render

USERS, ITEMS = 300, 120
SETTINGS = Evaluate(ks=(0, 1, 3), query_size=4, min_positives=7, resamples=1000)
HEADER = Header("made", "implicit", 0)


def made_tasks() -> StrictTasks:
    order = torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(0)).argsort(1)
    nothing = torch.zeros(USERS, 0)
    unknown = Features(nothing.long(), nothing, nothing)
    return StrictTasks(
        entity=torch.arange(USERS),
        user=unknown,
        support=order[:, :3],
        label=torch.ones(USERS, 3),
        time=torch.zeros(USERS, 3, dtype=torch.int64),
        event=torch.zeros(USERS, 3, dtype=torch.int64),
        query=order[:, 3:7],
        query_label=torch.ones(USERS, 4),
        query_event=torch.zeros(USERS, dtype=torch.int64),
        context=unknown,
        trained=torch.ones(ITEMS, dtype=torch.bool),
        share=torch.full((ITEMS,), 0.25),
        mask="window",
    )


TASKS = made_tasks()


def noisy(strength: float, seed: int) -> Tensor:
    """Scores that know the query with some strength: 0 is noise, large is perfect."""
    noise = torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(seed))
    return noise + strength * TASKS.gains()


def method(name: str, kind: str, strength: float, per_k: float = 0.0, seed: int = 1) -> Method:
    return Method(name, kind, 1.5, lambda k: noisy(strength + per_k * k, seed))


def rows_of(*methods: Method) -> list[Row]:
    ticks = count()
    return evaluate(TASKS, methods, SETTINGS, header=HEADER, clock=lambda: float(next(ticks)))


def number(row: Row, name: str) -> float:
    value = row[name]
    assert isinstance(value, float)
    return value


RANDOM = Method("random", "floor", 0.0, lambda k: torch.zeros(USERS, ITEMS))
WEAK = method("weak", "rival", 0.2, seed=2)
STRONG = method("strong", "rival", 0.5, seed=3)


def test_a_row_has_every_column_and_is_clean_json():
    rows = rows_of(RANDOM, WEAK, method("ours", "learner", 0.3, 0.2))
    assert [(row["method"], row["k"]) for row in rows] == [
        (name, k) for name in ("random", "weak", "ours") for k in (0, 1, 3)
    ]
    promised = [
        "protocol",
        "dataset",
        "feedback",
        "seed",
        "method",
        "kind",
        "k",
        "n",
        "ndcg@10",
        "hr@10",
        "recall@10",
        "recall@50",
        "coverage@10",
        "novelty",
        "ci95",
        "p_vs_best_rival",
        "seconds",
        "adaptation_gain",
    ]
    for row in rows:
        assert set(promised) <= row.keys()
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert rows[0]["n"] == USERS
    assert rows[0]["novelty"] == pytest.approx(2)  # -log2(1/4)
    assert rows[0]["seconds"] == 0.0 + 1  # one tick of the clock to score
    assert rows[3]["seconds"] == 1.5 + 1


def test_the_perfect_method_gets_one_and_the_constant_the_random_floor():
    rows = rows_of(RANDOM, method("perfect", "optimum", 9.0))
    assert rows[3]["ndcg@10"] == pytest.approx(1)
    assert rows[3]["recall@10"] == pytest.approx(1)
    assert rows[0]["recall@10"] == pytest.approx(10 / (ITEMS - 3), abs=0.02)
    assert rows[0]["recall@50"] == pytest.approx(50 / (ITEMS - 3), abs=0.04)


def test_p_values_compare_with_the_best_rival():
    rows = rows_of(WEAK, STRONG, method("ours", "learner", 0.9))
    by_method = {row["method"]: row for row in rows if row["k"] == 3}
    assert by_method["strong"]["p_vs_best_rival"] is None
    for name in ("weak", "ours"):
        assert by_method[name]["best_rival"] == "strong"
        assert by_method[name]["p_vs_best_rival"] == pytest.approx(2 / 1001)
    assert by_method["ours"]["better"]
    assert not by_method["weak"]["better"]


def test_a_row_says_how_many_entities_a_difference_of_5_percent_takes():
    rows = rows_of(RANDOM, STRONG, method("ours", "learner", 0.9))
    of = {str(row["method"]): row for row in rows if row["k"] == 3}
    assert of["strong"]["n_for_5_percent"] is None  # the best rival itself
    needed = of["ours"]["n_for_5_percent"]
    assert isinstance(needed, int)
    assert f"at 80 % power: {rows[-3]['n_for_5_percent']:,} (k=0)" in render(rows)
    assert f"{needed:,} (k=3); {USERS} are judged" in render(rows)
    assert "to see a difference" not in render(rows_of(RANDOM, STRONG))


def test_correction_spans_every_learner_and_k():
    # Three comparisons with the smallest p there is: the first of Holm's steps triples it.
    rows = [
        row for row in rows_of(STRONG, method("ours", "learner", 0.9)) if row["kind"] == "learner"
    ]
    assert [row["p_corrected"] for row in rows] == pytest.approx([3 * 2 / 1001] * 3)


def test_a_learner_that_is_significantly_worse_is_not_called_better():
    rows = rows_of(STRONG, method("ours", "learner", 0.1))
    assert not any(row["better"] for row in rows)


def test_adaptation_gain_is_what_the_support_adds():
    rows = rows_of(WEAK, method("ours", "learner", 0.2, 0.2))
    weak, ours = rows[:3], rows[3:]
    assert [row["adaptation_gain"] for row in weak] == [0, 0, 0]
    assert ours[0]["adaptation_gain"] == 0
    for row in ours[1:]:
        gain = number(row, "ndcg@10") - number(ours[0], "ndcg@10")
        assert row["adaptation_gain"] == pytest.approx(gain, abs=1e-6)


def test_noise_is_called_indistinguishable_from_chance():
    rows = rows_of(RANDOM, WEAK, method("noise", "learner", 0.0))
    chance = {row["method"]: row["chance"] for row in rows if row["k"] == 1}
    assert chance == {"random": True, "weak": False, "noise": True}
    assert "~  indistinguishable from chance" in render(rows)


def test_without_a_rival_there_is_no_p_value():
    rows = rows_of(RANDOM, method("ours", "learner", 0.5))
    assert all(row["p_vs_best_rival"] is None for row in rows)
    assert not any(row["better"] for row in rows)


def test_the_text_is_aligned_and_marks_what_is_better():
    text = render(rows_of(RANDOM, STRONG, method("ours", "learner", 0.4, 0.3)))
    lines = text.splitlines()
    head = next(line for line in lines if line.startswith("method"))
    ours = next(line for line in lines if line.startswith("ours"))
    assert len(head) == len(ours) <= 100
    assert ours.count("+") == 3  # k = 1, k = 3 and the sign of the gain
    assert "best rival: strong (k=0), strong (k=1), strong (k=3)" in text


def test_two_methods_of_one_name_are_refused():
    with pytest.raises(DataError, match="names of their own, got two weak"):
        rows_of(WEAK, WEAK)


def test_a_method_that_scores_nan_is_refused():
    broken = Method("broken", "learner", 0.0, lambda k: torch.full((USERS, ITEMS), torch.nan))
    with pytest.raises(NotFinite, match="broken gives nan for entity 0 after k = 0 events"):
        rows_of(broken)


def measured(name: str, kind: str, seed: int, level: float, k: int = 3, n: int = 100) -> Measured:
    noise = torch.rand(n, generator=torch.Generator().manual_seed(1000 * k + seed))
    return Measured(
        method=name,
        kind=kind,
        seed=seed,
        condition=Condition(k=k),
        entity=[str(i) for i in range(n)],
        weight=torch.ones(n),
        values={"ndcg@10": level + 0.01 * noise},
        facts={"coverage@10": level, "fit_seconds": 1.0, "score_seconds": 0.5},
    )


def test_seeds_are_averaged_entity_by_entity_and_their_spread_is_told():
    seeds = [measured("ours", "learner", seed, 0.1 * seed) for seed in (1, 2, 3)]
    (row,) = judge(seeds, HEADER, resamples=500)
    levels = [one.values["ndcg@10"].mean().item() for one in seeds]
    assert row["ndcg@10"] == pytest.approx(sum(levels) / 3)
    assert row["seeds"] == [1, 2, 3]
    assert row["seed_std"] == pytest.approx(torch.tensor(levels).std().item())
    assert row["coverage@10"] == pytest.approx(0.2)
    assert row["n"] == 100
    assert judge(seeds[:1], HEADER, resamples=500)[0]["seed_std"] is None


def test_a_learner_is_also_held_against_the_best_simple_rival():
    found = [
        measured(name, kind, 0, level + 0.1 * (k == 0) * (name == "ours"), k)
        for k in (0, 3, 5, 10)
        for name, kind, level in (
            ("popularity", "rival", 0.2),
            ("two_tower", "rival", 0.6),
            ("ours", "learner", 0.4),
        )
    ]
    rows = {row["k"]: row for row in judge(found, HEADER, resamples=500) if row["method"] == "ours"}
    for k in (3, 5, 10):
        assert (rows[k]["best_rival"], rows[k]["best_simple"]) == ("two_tower", "popularity")
        assert not rows[k]["better"]
        assert rows[k]["better_than_simple"]
        # The least p of 500 resamples, times the three sizes.
        assert rows[k]["p_bonferroni"] == pytest.approx(3 * 2 / 501)
    assert rows[0]["p_bonferroni"] is None
    assert not rows[0]["better_than_simple"]


def test_more_resamples_are_drawn_where_the_correction_asks_for_smaller_p():
    learners = [measured(f"ours{i}", "learner", i, 0.6) for i in range(40)]
    rows = judge([measured("ease", "rival", 9, 0.2), *learners], HEADER, resamples=100)
    # With 100 resamples the least p is 2 / 101, times 40 learners.
    assert all(row["better"] for row in rows[1:])
    assert rows[1]["p_vs_best_rival"] == pytest.approx(2 / (4 * 40 / 0.05 + 1))


def test_what_is_not_told_of_the_source_is_a_control_and_no_rival():
    found = [
        measured(name, kind, 0, level)
        for name, kind, level in (
            ("popularity", "rival", 0.2),
            ("ours", "learner", 0.6),
            ("ours:target_only", "control", 0.4),
            ("yours:target_only", "control", 0.5),
        )
    ]
    rows = {row["method"]: row for row in judge(found, HEADER, resamples=500)}
    assert rows["ours"]["best_rival"] == "popularity"
    assert rows["ours"]["p_vs_control"] == pytest.approx(2 / 501)
    assert rows["ours"]["best_control"] == "ours:target_only"
    assert rows["popularity"]["p_vs_control"] is None
    assert rows["ours:target_only"]["p_corrected"] is None


def test_a_method_that_is_judged_twice_with_one_seed_is_refused():
    with pytest.raises(DataError, match=r"must have names of their own, got two ease"):
        judge([measured("ease", "rival", 0, 0.2)] * 2, HEADER, resamples=500)


def test_scenarios_have_a_table_each():
    one = measured("ours", "learner", 0, 0.1)
    directions = ("food->kitchen", "kitchen->food")
    found = [one._replace(condition=Condition(0, name)) for name in directions]
    rows = [
        row | {"hr@10": 0.1, "adaptation_gain": 0.0} for row in judge(found, HEADER, resamples=500)
    ]
    tables = render(rows).split("\n\nstrict  ")
    assert [name in table for table, name in zip(tables, directions, strict=True)] == [True, True]


def test_methods_of_other_entities_are_refused():
    with pytest.raises(DataError, match=r"same entities, got 90 and 100 that differ \(b, seed 0\)"):
        judge(
            [measured("a", "rival", 0, 0.1), measured("b", "rival", 0, 0.1, n=90)],
            HEADER,
            resamples=500,
        )


def test_means_of_groups_and_their_gap_stand_in_the_row():
    one = measured("ours", "learner", 0, 0.1)
    one.values["ndcg@10"][:40] = 0.5
    one.values["ndcg@10"][40:] = 0.2
    groups = {
        "gender": {"F": {str(i) for i in range(40)}, "M": {str(i) for i in range(40, 100)}},
        "age": {"old": {"1", "2"}},  # too few to say anything
    }
    (row,) = judge([one], HEADER, resamples=500, groups=groups)
    assert row["groups"] == pytest.approx({"gender=F": 0.5, "gender=M": 0.2})
    assert row["gaps"] == pytest.approx({"gender": 0.3})


def test_ratings_are_compared_by_their_squared_error_and_told_by_its_root():
    def rated(name: str, kind: str, error: float) -> Measured:
        values = {"squared_error": torch.tensor([error, 2 * error]), "ndcg@5": torch.ones(2)}
        condition = Condition(scenario="user_cold")
        weight = torch.tensor([1.0, 3.0])
        return Measured(name, kind, 0, condition, ["a", "b"], weight, values, {})

    rows = judge(
        [rated("bias", "rival", 2.0), rated("ours", "learner", 1.0)], HEADER, resamples=500
    )
    ours = rows[1]
    assert ours["rmse"] == pytest.approx(((1 * 1 + 3 * 2) / 4) ** 0.5)
    assert ours["scenario"] == "user_cold"
    assert ours["best_rival"] == "bias"
    assert ours["better"]
    low, high = ours["ci95"]  # type: ignore[misc]
    assert (low, high) == pytest.approx((1, 2**0.5))
