"""An anchor: parameters are held to where they began, however long they are trained.

Knows what a step changed; does not know why it should be held back.
"""

from metarec_ray.training.meta_step import tables
from metarec_ray.training.meta_step.step import LaneResult, ParameterState


class Anchor:
    """Draws parameters back to what they are now, after each step.

    L2-SP [Li et al., 2018, arXiv:1802.01483], decoupled from the gradient as the weight decay of
    AdamW is: theta <- theta - outer_lr strength (theta - theta_before), at most all the way back.
    Of a table only the rows that the step changed are drawn.
    """

    def __init__(self, state: ParameterState, strength: float):
        """Remember the parameters; `strength` > 0 is in units of 1 / outer_lr."""
        self._state, self._strength = state, strength
        self._dense, self._tables = (
            {name: value.clone() for name, value in part.items()}
            for part in (state.dense, state.tables)
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
