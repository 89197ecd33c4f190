"""Counter-based random numbers: pure functions of a seed and integers.

Does not know what is drawn with them.
"""

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, epoch: np.ndarray, task_id: np.ndarray, *, draws: int) -> np.ndarray:
    """Return numbers in [0, 1), float64 [T, draws], a pure function of (seed, epoch, task id).

    By the finaliser of splitmix64: no draw depends on which other tasks a worker has.
    """
    with np.errstate(over="ignore"):
        key = _mix(np.uint64(seed) + _STEP * (epoch.astype(np.uint64) + np.uint64(1)))
        key = _mix(key ^ _mix(task_id.astype(np.uint64) + np.uint64(0x632BE59BD9B4E019)))
        counter = np.arange(1, draws + 1, dtype=np.uint64) * _STEP
        bits = _mix(key[:, None] + counter[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mixed(seed: int, *numbers: np.ndarray) -> np.ndarray:
    """Return uint64 hashes [N] of rows of integers [N], each a pure function of (seed, row)."""
    with np.errstate(over="ignore"):
        key = np.full(len(numbers[0]), _mix(np.array([seed], np.uint64))[0])
        for number in numbers:
            key = _mix((key ^ _mix(number.astype(np.uint64) + _STEP)) + _STEP)
    return key


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
