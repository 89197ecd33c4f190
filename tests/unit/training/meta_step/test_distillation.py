"""The distance to a teacher: written out, and what it does not listen to."""

import math

import pytest
import torch
from torch import Tensor

from metarec_ray.training.meta_step.distillation import (
    SILENT,
    TeacherLoss,
    Teaching,
    of_choices,
    of_clicks,
    of_ratings,
)

NOT = -torch.inf
ALL = torch.zeros(1, 3, dtype=torch.float64)


def numbers(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def slope(loss: TeacherLoss, scores: Tensor) -> Tensor:
    scores = scores.clone().requires_grad_()
    return torch.autograd.grad(loss(scores).sum(), scores)[0]


def test_choices_are_the_cross_entropy_of_two_distributions() -> None:
    answers, scores = numbers(math.log(4), math.log(4), math.log(2)), numbers(0, 0, 0)
    found = of_choices(Teaching(3.0), answers, ALL)(scores)
    torch.testing.assert_close(found, torch.tensor([3 * math.log(3)], dtype=torch.float64))
    torch.testing.assert_close(
        slope(of_choices(Teaching(3.0), answers, ALL), scores),
        3 * numbers(1 / 3 - 2 / 5, 1 / 3 - 2 / 5, 1 / 3 - 1 / 5),
    )


def test_a_temperature_softens_both_and_keeps_the_size_of_gradients() -> None:
    answers, scores = numbers(2 * math.log(4), 2 * math.log(4), 2 * math.log(2)), numbers(0, 0, 0)
    found = of_choices(Teaching(1.0, 2.0), answers, ALL)(scores)
    torch.testing.assert_close(found, torch.tensor([4 * math.log(3)], dtype=torch.float64))
    # temperature^2 / temperature (student - teacher)
    torch.testing.assert_close(
        slope(of_choices(Teaching(1.0, 2.0), answers, ALL), scores),
        2 * numbers(1 / 3 - 2 / 5, 1 / 3 - 2 / 5, 1 / 3 - 1 / 5),
    )


def test_a_candidate_counts_for_the_items_that_it_stands_for() -> None:
    weight = numbers(math.log(3), 0, NOT)
    found = of_choices(Teaching(1.0), numbers(0, 0, 9), weight)(numbers(0, math.log(3), 9))
    expected = -3 / 4 * math.log(3 / 6) - 1 / 4 * math.log(3 / 6)
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float64))


def test_the_best_student_has_the_scores_of_the_teacher_up_to_a_constant() -> None:
    answers, weight = numbers(0.3, -1.2, 2.0), numbers(0.5, 0.0, -0.7)
    for teaching in (Teaching(1.0), Teaching(2.0, 5.0)):
        at_best = slope(of_choices(teaching, answers, weight), answers + 7)
        torch.testing.assert_close(at_best, torch.zeros_like(at_best))


def test_who_is_silent_on_a_candidate_moves_it_nowhere() -> None:
    loss = of_choices(Teaching(1.0), numbers(0, SILENT, 1), ALL)
    gradient = slope(loss, numbers(0.5, 100.0, 0.1))
    assert gradient[0, 1] == 0
    assert gradient[0, 0] > 0
    torch.testing.assert_close(gradient[0, 0], -gradient[0, 2])
    quiet = of_choices(Teaching(1.0), numbers(SILENT, SILENT, SILENT), ALL)
    assert quiet(numbers(1, 2, 3)).item() == 0
    assert not slope(quiet, numbers(1, 2, 3)).any()
    barred = of_choices(Teaching(1.0), numbers(1, SILENT, SILENT), numbers(NOT, 0, 0))
    assert barred(numbers(1, 2, 3)).item() == 0


def test_ratings_are_drawn_to_the_prediction() -> None:
    mask = torch.tensor([[True, True, True, False]])
    loss = of_ratings(Teaching(2.0, 9.0), numbers(1, SILENT, 3, 5), mask)
    assert loss(numbers(2, 8, 0, 8)).tolist() == [2 * ((2 - 1) ** 2 + (0 - 3) ** 2) / 2]
    assert slope(loss, numbers(2, 8, 0, 8)).tolist() == [[2.0, 0.0, -6.0, 0.0]]


def test_clicks_are_drawn_to_the_probability() -> None:
    mask = torch.tensor([[True, True, False]])
    loss = of_clicks(Teaching(1.0, 2.0), numbers(2 * math.log(3), SILENT, 0), mask)
    # At log-odds 0 a half is said; the teacher says three quarters.
    expected = -4 * (3 / 4 * math.log(1 / 2) + 1 / 4 * math.log(1 / 2))
    assert loss(numbers(0, 9, 9)).item() == pytest.approx(expected)
    assert slope(loss, numbers(0, 9, 9)).tolist() == [[4 / 2 * (1 / 2 - 3 / 4), 0.0, 0.0]]
