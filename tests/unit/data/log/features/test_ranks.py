"""Numbers as ranks: exact where they are few, close where they are many, the same for any parts."""

import numpy as np

from metarec_ray.data.log.features.ranks import KNOTS, POINTS, counted, merged, rank_map


def ranked(numbers: np.ndarray, asked: np.ndarray) -> np.ndarray:
    found = rank_map(counted(numbers))
    return np.interp(asked, found.knots, found.ranks)


def test_a_rank_is_the_share_of_rows_below_ties_counted_half() -> None:
    found = rank_map(counted(np.array([5.0, 1.0, 5.0, 9.0])))
    assert found.knots == (1.0, 5.0, 9.0)
    assert found.ranks == ((0 + 1 / 2) / 4, (1 + 2 / 2) / 4, (3 + 1 / 2) / 4)


def test_parts_in_any_order_make_the_counts_of_the_whole() -> None:
    numbers = np.random.default_rng(0).integers(0, 90, 5000).astype(np.float32)
    parts = [counted(part) for part in np.split(numbers, [3, 700, 700])]
    assert merged(parts) == merged(parts[::-1]) == counted(numbers)
    assert merged([]) == counted(numbers[:0]) == ()


def test_ranks_of_many_numbers_are_close_and_their_map_is_short() -> None:
    numbers = np.exp(3 * np.random.default_rng(1).standard_normal(50_000))
    numbers[:20_000] = 0.0
    parts = [counted(part) for part in np.split(numbers, 7 * [0] + [9_000, 30_000])]
    assert max(map(len, parts)) <= POINTS
    assert sum(count for part in parts for _, count in part) == len(numbers)
    found = rank_map(merged(parts))
    assert len(found.knots) <= KNOTS
    asked = np.quantile(numbers[20_000:], np.linspace(0.01, 1, 200))
    exact = [((numbers < one).sum() + (numbers <= one).sum()) / 2 / len(numbers) for one in asked]
    assert np.abs(np.interp(asked, found.knots, found.ranks) - exact).max() < 0.03
    assert np.interp(0.0, found.knots, found.ranks) == 0.2


def test_one_far_number_moves_nobody() -> None:
    numbers = np.random.default_rng(2).random(200)
    far = numbers.copy()
    far[numbers.argmax()] = 1e6
    kept = np.delete(numbers, numbers.argmax())
    np.testing.assert_allclose(ranked(far, kept), ranked(numbers, kept), atol=1e-9)
    assert ranked(far, np.array([1e6, 1e30, -1e30])).tolist() == [
        *2 * [ranked(far, far).max()],
        ranked(far, far).min(),
    ]


def test_without_a_training_row_every_number_has_the_middle_rank() -> None:
    assert ranked(np.zeros(0), np.array([-7.0, 0.0, 1e6])).tolist() == [0.5, 0.5, 0.5]
