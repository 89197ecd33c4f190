"""How a history becomes a task: the `train.tasks` section.

Knows lengths; does not know histories.
"""

import logging
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from metarec_ray.data.settings import Settings
from metarec_ray.data.tasks.negatives import Sampling

log = logging.getLogger(__name__)


class Cut(Settings):
    """The `train.tasks` section: how a history becomes a task.

    Attributes:
        ks: support sizes, each as likely as the others.
        window: events before the query; a support is the first k of them.
        query_size: most events of a query; a short history has fewer.
        start_share: share of the windows that begin with the history's first event.
        negatives: number of sampled items that an entity never met, which a query item competes
            with beside the query's others; 0 ranks the whole catalogue. Items of the support are
            not chosen again with either.
        negative_sampling: uniform over the catalogue, by popularity, or from the events of the
            lane.

    """

    ks: tuple[NonNegativeInt, ...] = (0, 1, 3, 5, 10)
    window: PositiveInt = 10
    query_size: PositiveInt = 10
    start_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    negatives: NonNegativeInt = 0
    negative_sampling: Sampling = "uniform"

    @model_validator(mode="after")
    def _window_holds_every_k(self) -> "Cut":
        if not self.ks or max(self.ks) > self.window:
            raise ValueError(
                f"every k of ks must be <= window, got ks {list(self.ks)} and window {self.window}"
            )
        return self


def fitting(cut: Cut, longest: int) -> Cut:
    """Return the cut for histories of at most `longest` events, half of them in the window.

    It is the given one if some history is longer than its window, or none has two events.
    """
    if longest > cut.window or longest < 2:
        return cut
    window = longest // 2
    ks = tuple(dict.fromkeys(min(k, window) for k in cut.ks))
    log.warning(
        "no history has more than %d events (train.tasks.window), the longest has %d: windows have "
        "%d, and ks are %s",
        cut.window,
        longest,
        window,
        list(ks),
    )
    return cut.model_copy(update={"window": window, "ks": ks})
