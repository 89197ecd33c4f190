"""What keeps a model from forgetting while it learns from new events.

Replay of what was seen before, an anchor to the model before, and a verdict on the new one. Knows
lanes and steps; does not know periods, or how quality is measured.
"""

from collections.abc import Callable
from typing import NamedTuple

from metarec_ray.core.batch import Lane
from metarec_ray.data.tasks.lanes import LaneSampler
from metarec_ray.training.meta_step import tables
from metarec_ray.training.meta_step.step import LaneResult
from metarec_ray.training.trainer import Trainer

Share = Callable[..., dict[int, Lane]]
"""Returns a worker's lanes of a meta-batch, called as `LaneSampler.share`."""


class Verdict(NamedTuple):
    """Whether a period's model goes on.

    Attributes:
        before: quality of the model that the period began with, on held-out entities' first tasks
            of all that was seen so far, this period included; None if the period began with fresh
            parameters.
        after: that of the model that the period ended with.

    """

    before: float | None
    after: float

    @property
    def refused(self) -> bool:
        """Whether the period ended below the model that it began with."""
        return self.before is not None and not self.after >= self.before

    def sentence(self) -> str:
        """Return what a refused period is told by; an empty text for others."""
        if self.before is None or not self.refused:
            return ""
        numbers = f"{self.after:.4f} on all that was seen, {self.before:.4f} before it"
        return f"  refused: {numbers}; the model before goes on"


def mixed(new: LaneSampler, seen: LaneSampler, replay: float) -> Share:
    """Return lanes of which a share `replay`, in [0, 1], is of `seen` and the others of `new`.

    Whole lanes, spread evenly over the lanes of all steps: which ones depends on no worker.
    """

    def share(
        seed: int, step: int, rank: int, world: int, *, lanes: int, lane_tasks: int
    ) -> dict[int, Lane]:
        found = {}
        for index in range(rank, lanes, world):
            number = step * lanes + index
            replayed = int((number + 1) * replay) > int(number * replay)
            sampler = seen if replayed else new
            found[index] = sampler.lane(seed, step, index, lanes=lanes, lane_tasks=lane_tasks)
        return found

    return share


class Anchor:
    """Draws a trainer's parameters back to what they are now, after each of its steps.

    L2-SP [Li et al., 2018, arXiv:1802.01483], decoupled from the gradient as the weight decay of
    AdamW is: theta <- theta - outer_lr strength (theta - theta_before), at most all the way back.
    Of a table only the rows that the step changed are drawn.
    """

    def __init__(self, trainer: Trainer, strength: float):
        """Remember the trainer's parameters; `strength` > 0 is in units of 1 / outer_lr."""
        self._state, self._strength = trainer.state, strength
        self._dense, self._tables = (
            {name: value.clone() for name, value in part.items()}
            for part in (trainer.state.dense, trainer.state.tables)
        )

    def __call__(self, results: list[LaneResult], outer_lr: float) -> None:
        """Draw back what a step changed, given the results of all its lanes and its rate."""
        share = min(1.0, outer_lr * self._strength)
        for name, value in self._state.dense.items():
            value.lerp_(self._dense[name], share)
        for name in results[0].rows:
            table, before = self._state.tables[name], self._tables[name]
            rows = tables.changed([result.rows[name] for result in results])
            table[rows] = table[rows].lerp(before[rows], share)
