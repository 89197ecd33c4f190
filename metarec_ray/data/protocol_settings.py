"""Settings of the evaluation protocols: sizes of supports and queries, whose events.

Does not know how tasks are cut from events.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from metarec_ray.data.setting_types import Settings
from metarec_ray.data.settings import Rows


def _unique(ks: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(ks)) < len(ks):
        raise ValueError(f"every k of ks must be there once, got {list(ks)}")
    return ks


Ks = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), AfterValidator(_unique)]
"""Sizes of the support."""


class RatingCut(Settings):
    """The `evaluate.ratings` section: a task is all ratings of an entity in one scenario.

    Attributes:
        query_size: ratings of the query, the last after a shuffle; lists of 5 or fewer have no
            NDCG.
        min_ratings, max_ratings: an entity with fewer or more in a scenario has no task there.

    """

    query_size: PositiveInt = 10
    min_ratings: PositiveInt = 13
    max_ratings: PositiveInt = 100

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> "RatingCut":
        if not self.query_size < self.min_ratings <= self.max_ratings:
            raise ValueError(
                "query_size < min_ratings <= max_ratings must hold, got "
                f"{self.query_size}, {self.min_ratings}, {self.max_ratings}"
            )
        return self


class ItemKshot(Settings):
    """The `evaluate.item_kshot` section: new items, known by their first raters.

    Attributes:
        ks: sizes of the support, each a prefix of the next.
        query_size: most ratings of a query; they follow the largest support.
        min_ratings: an item with fewer has no task.
        rows: the ratings of the new items, selected by a side file as by `data.only`; None for
            those of the test entities of the store.

    """

    ks: Ks = (0, 1, 3, 5, 10)
    query_size: PositiveInt = 100
    min_ratings: PositiveInt = 20
    rows: Rows | None = None

    @model_validator(mode="after")
    def _something_to_ask(self) -> "ItemKshot":
        if self.min_ratings <= max(self.ks):
            raise ValueError(
                f"min_ratings must be > max(ks) = {max(self.ks)}, got {self.min_ratings}"
            )
        return self


class LeaveLastOut(Settings):
    """The `evaluate.leave_last_out` section: the last event of a known entity.

    Attributes:
        ks: newest events before it in the support, at most, each once; shorter histories are whole.
        masked: newest events whose items are no candidates, as they are known.
        entities: most entities that are judged, a fixed draw of more.

    """

    ks: Ks = (200,)
    masked: PositiveInt = 200
    entities: PositiveInt = 10_000


class CrossDomain(Settings):
    """The `evaluate.cross_domain` section: known in one domain, asked in another.

    Attributes:
        feature: categorical feature of the items that names their domain.
        ks: numbers of target events in the support, beside the source events.
        min_query, query_size: fewest and most target events of a query, after the largest k; an
            entity with fewer has no task.
        shuffle_days: seed that shuffles the events of each day, a control for what their order
            gives away; None for the order of the store.

    """

    feature: str = "domain"
    ks: Ks = (0, 1, 3)
    min_query: PositiveInt = 3
    query_size: PositiveInt = 5
    shuffle_days: NonNegativeInt | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "CrossDomain":
        if self.min_query > self.query_size:
            raise ValueError(
                f"min_query must be <= query_size = {self.query_size}, got {self.min_query}"
            )
        return self
