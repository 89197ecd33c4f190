"""Where the events of tasks lie in histories: positions side by side, padded to one width.

Knows positions; does not know events.
"""

import numpy as np

Span = tuple[np.ndarray, np.ndarray]
"""Positions of events [T, width], and a mask: which of them are real."""


def spans(first: np.ndarray, count: np.ndarray, width: int) -> Span:
    """Return `count` [T] events from `first` [T] on as a span."""
    at = first[:, None] + np.arange(width)[None, :]
    return at, np.arange(width)[None, :] < count[:, None]


def padded(events: list[np.ndarray], width: int) -> Span:
    """Return lists of events as a span, at least `width` wide."""
    sizes = np.array([len(numbers) for numbers in events])
    width = max(width, int(sizes.max(initial=0)))
    mask = np.arange(width)[None, :] < sizes[:, None]
    at = np.zeros(mask.shape, np.int64)
    at[mask] = np.concatenate(events)
    return at, mask
