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
from metarec_ray.evaluation.table.comparison import FEWEST
from metarec_ray.evaluation.table.ranking_measures import Condition, Measured
from metarec_ray.evaluation.table.rows import Header, Row, evaluate, judge
from metarec_ray.evaluation.table.statistics import holm
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


def ends(row: Row) -> tuple[float, float]:
    found = row["ci95"]
    assert isinstance(found, list)
    return float(found[0]), float(found[1])


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


def test_a_mean_is_that_of_all_seeds_and_their_spread_is_in_the_interval():
    seeds = [measured("ours", "learner", seed, 0.1 * seed) for seed in (1, 2, 3)]
    (row,) = judge(seeds, HEADER, resamples=500)
    levels = [one.values["ndcg@10"].mean().item() for one in seeds]
    assert row["ndcg@10"] == pytest.approx(sum(levels) / 3)
    assert row["seeds"] == [1, 2, 3]
    assert row["seed_std"] == pytest.approx(torch.tensor(levels).std().item())
    assert row["coverage@10"] == pytest.approx(0.2)
    assert row["n"] == 100
    low, high = ends(row)
    # Student's t with 2 degrees of freedom: 4.303 standard errors of the seeds' means.
    assert (high - low) / 2 == pytest.approx(4.303 * number(row, "seed_std") / 3**0.5, rel=0.15)
    alone = judge(seeds[:1], HEADER, resamples=500)[0]
    assert alone["seed_std"] is None
    low, high = ends(alone)
    assert high - low < 0.002


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
        # The least p of the resamples that eight comparisons ask for, times the eight.
        assert rows[k]["p_corrected_simple"] == pytest.approx(8 * 2 / (4 * 8 / 0.05 + 1))
    assert rows[0]["better_than_simple"]  # at every k alike


def test_every_claim_of_a_table_is_corrected_by_one_rule():
    found = [
        measured(name, kind, seed, level + 0.002 * k * (name == "ours"), k)
        for k in (0, 3)
        for name, kind, level in (
            ("random", "floor", 0.198),
            ("popularity", "rival", 0.198),
            ("two_tower", "rival", 0.2),
            ("ours", "learner", 0.198),
            ("ours:target_only", "control", 0.199),
        )
        for seed in range(1 + len(name) % 4)
    ]
    rows = judge(found, HEADER, resamples=500)
    claims = {
        "p_corrected": "p_vs_best_rival",
        "p_corrected_simple": "p_vs_best_simple",
        "p_corrected_control": "p_vs_control",
        "p_corrected_chance": "p_vs_chance",
    }
    pairs = [
        (number(row, raw), number(row, name))
        for row in rows
        for name, raw in claims.items()
        if row[name] is not None
    ]
    # Of each k: the learner against three others and a floor, three more against the floor.
    assert len(pairs) == 2 * (4 + 3)
    assert [p for _, p in pairs] == pytest.approx(holm([raw for raw, _ in pairs]))
    ordered = sorted(pairs)
    assert [p for _, p in ordered] == sorted(p for _, p in ordered)
    marks = {"p_corrected": "better", "p_corrected_simple": "better_than_simple",
             "p_corrected_control": "better_than_control"}  # fmt: skip
    for row in rows:
        for name, mark in marks.items():
            assert not row[mark] or number(row, name) < 0.05


def test_one_comparison_that_is_told_twice_counts_once():
    # The best rival is the best simple one: both names of it have the same p.
    rows = rows_of(WEAK._replace(name="ease"), method("ours", "learner", 0.9))
    for row in rows[3:]:
        assert row["p_corrected"] == row["p_corrected_simple"]
        assert row["p_corrected"] == pytest.approx(3 * number(row, "p_vs_best_rival"))


def test_more_resamples_are_drawn_where_the_correction_asks_for_smaller_p():
    learners = [measured(f"ours{i}", "learner", i, 0.6) for i in range(40)]
    rows = judge([measured("bpr", "rival", 9, 0.2), *learners], HEADER, resamples=100)
    # With 100 resamples the least p is 2 / 101, times 40 learners.
    assert all(row["better"] for row in rows[1:])
    assert rows[1]["p_vs_best_rival"] == pytest.approx(2 / (4 * 40 / 0.05 + 1))


def rated(name: str, kind: str, errors: Tensor) -> Measured:
    """Squared errors [E] of as many entities."""
    values = {"squared_error": errors, "ndcg@5": torch.full_like(errors, torch.nan)}
    entity = [str(i) for i in range(len(errors))]
    return Measured(name, kind, 0, Condition(k=1), entity, torch.ones(len(errors)), values, {})


def test_nothing_is_concluded_of_a_learner_that_is_silent_where_it_is_bad():
    errors = 1 + torch.rand(300, generator=torch.Generator().manual_seed(0))
    silent = torch.where(torch.arange(300) % 2 == 0, torch.nan, errors - 0.5)
    rows = judge(
        [rated("bias", "rival", errors), rated("ours", "learner", silent)], HEADER, resamples=500
    )
    ours = rows[1]
    assert (rows[0]["n"], ours["n"]) == (300, 150)
    low, high = ends(ours)
    assert low < number(ours, "rmse") < high
    assert ours["rmse"] == pytest.approx((errors[1::2] - 0.5).mean().sqrt().item())
    assert number(ours, "p_vs_best_rival") < 0.05  # on the users that both have
    assert ours["p_corrected"] is None
    assert not ours["better"]
    # Lists that are too short have no metric of chance: nothing is said of it.
    assert not ours["chance"]
    assert ours["p_vs_chance"] is None


@pytest.mark.parametrize(("value", "got"), [(torch.nan, "none"), (torch.inf, "an infinite one")])
def test_a_method_without_finite_values_is_refused_by_name(value: float, got: str):
    broken = rated("broken", "learner", torch.full((30,), value))
    with pytest.raises(DataError, match=rf"squared_error, got {got} \(method broken, seed 0, k 1"):
        judge([rated("bias", "rival", torch.ones(30)), broken], HEADER, resamples=500)


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
    def of_two(name: str, kind: str, error: float) -> Measured:
        return rated(name, kind, torch.tensor([error, 2 * error]))._replace(
            condition=Condition(scenario="user_cold"), weight=torch.tensor([1.0, 3.0])
        )

    rows = judge(
        [of_two("bias", "rival", 2.0), of_two("ours", "learner", 1.0)], HEADER, resamples=500
    )
    ours = rows[1]
    assert ours["rmse"] == pytest.approx(((1 * 1 + 3 * 2) / 4) ** 0.5)
    assert ours["scenario"] == "user_cold"
    assert ours["best_rival"] == "bias"
    assert not ours["better"]  # two entities say nothing
    assert ends(ours) == pytest.approx((1, 2**0.5))


@pytest.mark.parametrize(("entities", "better"), [(FEWEST - 1, False), (FEWEST, True)])
def test_few_entities_conclude_nothing(entities: int, better: bool) -> None:
    level = torch.linspace(0.1, 0.2, entities)
    rival, ours = rated("bias", "rival", level + 1), rated("ours", "learner", level)
    row = judge([rival, ours], HEADER, resamples=500)[1]
    assert row["better"] is better
    assert (row["p_corrected"] is None) is not better
    assert row["p_vs_best_rival"] is not None
