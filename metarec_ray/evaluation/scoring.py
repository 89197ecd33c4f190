"""The scores of a recommender for the tasks of a protocol, over the whole catalogue.

Knows the support of a task at each k, and that a score is a number: one that is not is refused,
because a mean skips it and a comparison orders it anyhow. Does not know what scores are for.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metarec_ray.errors import NotFinite
from metarec_ray.inference.recommender import Recommender
from metarec_ray.inference.supports import Supports


class Method(NamedTuple):
    """A row of a table before it is measured.

    Attributes:
        name: as in the table.
        kind: floor, rival, learner or optimum.
        fit_seconds: what fitting took.
        scores: k -> float [E, I], higher is better, after each entity's first k events.
        adapted: how many numbers adapting to one entity computes.

    """

    name: str
    kind: str
    fit_seconds: float
    scores: Callable[[int], Tensor]
    adapted: int = 0


class RankingTasks(Protocol):
    """Tasks of E entities, judged by rankings of I items at several k."""

    @property
    def entity(self) -> Tensor: ...
    @property
    def trained(self) -> Tensor: ...
    @property
    def share(self) -> Tensor: ...
    def candidates(self, k: int) -> Tensor:
        """Return bool [E, I]: what may be recommended to each entity."""
        ...

    def gains(self) -> Tensor:
        """Return float [E, I]: above 0 on the query items of each entity."""
        ...

    def supports(self, k: int) -> Supports:
        """Return the support of each entity."""
        ...


def require_finite(
    scores: Tensor, asked: Tensor, *, method: str, entity: Sequence[object], k: int | None
) -> None:
    """Raise NotFinite if a method's score is NaN or infinite where it was `asked` for.

    Args:
        scores: [E, Q] of each entity's items.
        asked: bool [E, Q] or [Q]; what else is in `scores` may be anything.
        method: its name.
        entity: [E], names of the entities.
        k: number of known events; None for whole supports.

    """
    wrong = asked & ~scores.isfinite()
    if not bool(wrong.any()):
        return
    rows = wrong.any(1)
    first = int(rows.to(torch.int8).argmax())
    place = "" if k is None else f" after k = {k} events"
    raise NotFinite(
        f"scores must be finite, {method} gives {scores[first][wrong[first]][0].item()} for entity "
        f"{entity[first]}{place} ({int(rows.sum())} of {len(rows)} entities have such scores)"
    )


def recommender_method(
    recommender: Recommender, tasks: RankingTasks, *, name: str | None = None
) -> Method:
    """Return a recommender as a row; its name is the learner's by default."""
    return Method(
        name or recommender.method,
        recommender.kind,
        float(recommender.metadata["metrics"].get("seconds", 0.0)),
        lambda k: recommender.scores(tasks.supports(k)),
        recommender.adapted(),
    )
