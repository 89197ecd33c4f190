import re
from pathlib import Path

import pytest

from metarec_ray.report import results
from metarec_ray.report.run import Run
from tests.unit.report.runs import (
    KS,
    OPTIMUM,
    SCORES,
    evaluated_run,
    headings,
    made_run,
    row,
    rows,
    words,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_run(tmp_path_factory.mktemp("run"))


def test_the_verdict_says_where_the_learner_is_better_and_where_it_is_not(run: Run) -> None:
    assert (
        "On 1,280 new users of synthetic, bayesian_head is better than the best rival at k = 1, 3, "
        "5 and 10 (corrected p &lt; .05) and not distinguishable from it at k = 0."
        in words(results.verdict(run))
    )
    assert "users that a difference of 5 % takes to be seen" in words(results.verdict(run))
    assert "5,120" in words(results.verdict(run))


def test_a_learner_above_the_rival_without_a_small_p_is_not_called_better(tmp_path: Path) -> None:
    found = [row(method, k) for method in ("ease", "popularity") for k in (3,)]
    found.append(row("bayesian_head", 3, p_corrected=0.07, better=False))
    assert "is not distinguishable from the best rival at k = 3." in words(
        results.verdict(evaluated_run(tmp_path, found))
    )


def test_a_learner_that_is_worse_is_said_to_be_worse(tmp_path: Path) -> None:
    found = [row("ease", 10), row("popularity", 10)]
    low = {"ndcg@10": 0.02, "ci95": [0.01, 0.03], "better": False, "p_corrected": 0.001}
    found.append(row("bayesian_head", 10, **low, chance=True))
    assert (
        "is worse than the best rival at k = 10 (corrected p &lt; .05) and indistinguishable from "
        "chance at k = 10." in words(results.verdict(evaluated_run(tmp_path, found)))
    )


def test_a_table_without_a_rival_makes_no_claim(tmp_path: Path) -> None:
    alone = row("bayesian_head", 5, best_rival=None, p_corrected=None, better=False)
    said = words(results.verdict(evaluated_run(tmp_path, [alone])))
    assert "bayesian_head is without a rival to compare with at k = 5." in said
    assert "better" not in said


def test_a_table_of_rivals_has_curves_and_no_verdict(tmp_path: Path) -> None:
    found = [row(method, k) for method in ("random", "ease") for k in KS]
    run = evaluated_run(tmp_path, found)
    assert results.verdict(run) == ""
    assert headings(results.curves(run)) == ["How good the first recommendations are"]


def test_the_verdict_table_holds_the_difference_to_the_best_rival(run: Run) -> None:
    line = next(part for part in results.verdict(run).split("<tr>") if ">k = 10<" in part)
    # 0.205 against EASE's 0.152
    assert re.findall(r"<td>([^<]*)</td>", line)[:5] == [
        "0.2050",
        "ease",
        "0.1520",
        f"{0.205 - 0.152:+.4f}",
        "&lt; .001",
    ]


def test_regret_is_the_optimum_minus_the_learner(run: Run) -> None:
    line = next(part for part in results.regret(run).split("<tr>") if ">k = 10<" in part)
    closed = (0.205 - 0.075) / (0.230 - 0.075)
    assert re.findall(r"<td>([^<]*)</td>", line)[:4] == [
        "0.2300",
        "0.2050",
        f"{0.230 - 0.205:+.4f}",
        f"{closed:.0%}",
    ]


def test_every_row_of_the_table_is_there(run: Run) -> None:
    assert results.full_table(run).count("<tr>") == 1 + len(SCORES) * len(KS)


def test_an_optimum_among_the_rows_is_drawn_once(tmp_path: Path) -> None:
    optimum = [
        {**row("random", k), "method": "optimum", "kind": "optimum", "ndcg@10": value}
        for k, value in OPTIMUM.items()
    ]
    run = made_run(tmp_path, rows=[*rows(), *optimum])
    wide = results.curves(run).split('<div class="chart wide">')[1].split("</svg>")[0]
    assert wide.count(">optimum</text>") == 1


def test_rows_without_a_k_are_in_the_table_only(tmp_path: Path) -> None:
    melu = {
        "protocol": "melu",
        "method": "user_mean",
        "kind": "rival",
        "scenario": "user_cold",
        "rmse": 0.97,
    }
    run = evaluated_run(tmp_path, [melu])
    assert [results.verdict(run), results.curves(run), results.regret(run)] == ["", "", ""]
    assert "0.9700" in results.full_table(run)


def test_columns_that_no_row_has_are_left_out_with_the_reason(tmp_path: Path) -> None:
    lists = dict.fromkeys(("hr@10", "recall@10", "recall@50", "coverage@10", "novelty"))
    said = words(results.full_table(evaluated_run(tmp_path, [row("ease", 3, **lists)])))
    assert "hr@10" not in said
    assert "ndcg@10" in said
    assert "a list of 10 holds every candidate, in any order" in said
