"""What a recommender answers. Knows raw ids and numbers; does not know where they come from."""

from typing import NamedTuple


class RankedItem(NamedTuple):
    """An item of a ranking; `score` is None for an unknown item.

    `std` is the standard deviation of the label that the score predicts; None of an unknown item
    and of a learner without a posterior.
    """

    id: str
    title: str | None
    score: float | None
    cold: bool
    std: float | None = None


class Ranking(NamedTuple):
    """Items, best first.

    Attributes:
        adapted: whether the ranking is of the adapted model; if not, it is the prior's, because no
            event was usable or `diverged`.
        support_used: number of support events that were adapted on.
        unknown: indices of support events whose item is not in the catalogue.
        diverged: True if scores after adapting were NaN or infinite; then it is the ranking of the
            prior, and no event was used.

    """

    items: list[RankedItem]
    adapted: bool
    support_used: int
    unknown: list[int]
    diverged: bool = False
