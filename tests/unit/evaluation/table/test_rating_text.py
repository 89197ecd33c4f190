import torch
from torch import Tensor

from metarec_ray.evaluation.table.ranking_measures import Condition, Measured
from metarec_ray.evaluation.table.rating_measures import Asked, measure_ratings
from metarec_ray.evaluation.table.rating_text import render
from metarec_ray.evaluation.table.rows import Header, judge

LABEL = torch.tensor([[1.0, 2, 3, 4, 5, 1, 2, 3, 4, 5]])
HEADER = Header("films", "explicit", 4, "melu")


def constant(
    name: str, kind: str, value: float, condition: Condition, label: Tensor = LABEL
) -> Measured:
    asked = Asked(label, torch.ones_like(label, dtype=torch.bool), scale=(1.0, 5.0))
    worth = measure_ratings(torch.full_like(label, value), asked, ties=4)
    return Measured(name, kind, 4, condition, ["7"], *worth)


def test_a_block_a_scenario_with_the_errors_of_arithmetic() -> None:
    scenarios = [Condition(scenario=name) for name in ("user_cold", "both_cold")]
    measured = [constant("high", "rival", 9.0, one) for one in scenarios]
    measured += [constant("mean", "learner", 3.0, one) for one in scenarios]
    lines = render(judge(measured, HEADER, resamples=100)).split("\n")
    assert lines[0] == "melu  films (explicit)  seed 4"
    assert [line for line in lines if line.endswith("tasks")] == [
        "user_cold: 1 tasks",
        "both_cold: 1 tasks",
    ]
    # A prediction of 9 counts as 5: errors 4 3 2 1 0; those of 3 are 2 1 0 1 2.
    high, mean = (
        [line.split() for line in lines if line.startswith(name)] for name in ("high", "mean")
    )
    assert [(line[2], line[4]) for line in high] == [("2.4495", "2.0000")] * 2  # (30 / 5)^.5
    assert [(line[2].rstrip("+"), line[4]) for line in mean] == [("1.4142", "1.2000")] * 2
    assert max(map(len, lines)) <= 100


def test_a_block_a_size_of_the_support() -> None:
    measured = [constant("mean", "floor", 3.0, Condition(k=k)) for k in (0, 10)]
    lines = render(judge(measured, HEADER, resamples=100)).split("\n")
    assert [line for line in lines if line.endswith("tasks")] == ["k=0: 1 tasks", "k=10: 1 tasks"]
    assert render([]) == "no rows"


def test_a_query_with_no_list_has_a_dash_for_its_ndcg() -> None:
    few = constant("mean", "floor", 3.0, Condition(k=0), LABEL[:, :5])
    line = next(
        line.split()
        for line in render(judge([few], HEADER, resamples=100)).split("\n")
        if line.startswith("mean")
    )
    assert line[2:8] == ["1.4142", "0.0000", "1.2000", "-", "-", "-"]
