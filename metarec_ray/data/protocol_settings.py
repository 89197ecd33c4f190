"""What a user says about the tasks of a protocol: sizes of supports and queries, and whose rows.

Knows the settings below `evaluate`; does not know how tasks are cut from events.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from metarec_ray.data.settings import Rows, Settings


def _unique(ks: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(ks)) < len(ks):
        raise ValueError(f"every k of ks must be there once, got {list(ks)}")
    return ks


Ks = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), AfterValidator(_unique)]
"""Sizes of the support."""


class RatingCut(Settings):
    """The `evaluate.ratings` section: tasks of all ratings an entity has in one scenario.

    Attributes:
        query_size: ratings of a task that are asked about, the last of a shuffle; lists of 5 or
            fewer have no NDCG.
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
    """The `evaluate.item_kshot` section: new items by their first raters.

    Attributes:
        ks: sizes of the support, each a prefix of the next.
        query_size: at most so many ratings after the largest support are asked about.
        min_ratings: an item with fewer has no task.
        rows: the ratings of the new items, named by a side file like those of `data.only`; None for
            the test entities of the store.

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


class CrossDomain(Settings):
    """The `evaluate.cross_domain` section: what an entity does in one domain, asked in another.

    Attributes:
        feature: categorical feature of the items that names their domain.
        ks: numbers of target events that may be known beside the source events.
        min_query, query_size: the target events after the largest k that are to be found; an entity
            with fewer than `min_query` has no task.
        shuffle_days: seed that draws a new order of events inside each day, the control for what
            that order gives away; None for the order of the store.

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
