"""What is made one call early."""

import pytest

from metarec_ray.training.prefetcher import Prefetcher


def test_what_was_prefetched_is_not_made_again() -> None:
    made: list[int] = []

    def make(step: int, of: int) -> int:
        made.append(step)
        return step * of

    prefetcher = Prefetcher(make)
    assert prefetcher.get(0, 7, following=(1, 7)) == 0
    assert prefetcher.get(1, 7, following=(2, 7)) == 7
    assert prefetcher.get(2, 7, following=None) == 14
    assert sorted(made) == [0, 1, 2]


def test_what_was_not_foreseen_is_made_now() -> None:
    prefetcher = Prefetcher(lambda step, of: (step, of))
    prefetcher.get(0, 1, following=(1, 1))
    assert prefetcher.get(9, 2, following=None) == (9, 2)  # resumed elsewhere, with other workers


def test_what_fails_in_the_background_fails_when_it_is_asked_for() -> None:
    prefetcher = Prefetcher(lambda step: 1 // (step - 1))
    assert prefetcher.get(0, following=(1,)) == -1
    with pytest.raises(ZeroDivisionError):
        prefetcher.get(1, following=None)
