"""What is made one call ahead."""

import pytest

from metarec_ray.training.ahead import Ahead


def test_what_was_made_ahead_is_not_made_again() -> None:
    made: list[int] = []

    def make(step: int, of: int) -> int:
        made.append(step)
        return step * of

    ahead = Ahead(make)
    assert ahead.take(0, 7, then=(1, 7)) == 0
    assert ahead.take(1, 7, then=(2, 7)) == 7
    assert ahead.take(2, 7, then=None) == 14
    assert sorted(made) == [0, 1, 2]


def test_what_was_not_foreseen_is_made_now() -> None:
    ahead = Ahead(lambda step, of: (step, of))
    ahead.take(0, 1, then=(1, 1))
    assert ahead.take(9, 2, then=None) == (9, 2)  # resumed elsewhere, with other workers


def test_what_fails_ahead_fails_when_it_is_asked_for() -> None:
    ahead = Ahead(lambda step: 1 // (step - 1))
    assert ahead.take(0, then=(1,)) == -1
    with pytest.raises(ZeroDivisionError):
        ahead.take(1, then=None)
