"""The section `sweep`: which keys are tried, with which values.

Knows ranges and their rules; does not know how values are drawn, or what is trained.
"""

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from metarec_ray.config.tracking import TrackingUri
from metarec_ray.data.setting_types import Settings

Value = bool | int | float | str | None
MOST_TRIALS = 10_000
"""Of a grid: each is a fit."""


class Range(Settings):
    """Values of one key of a sweep: a log-uniform or uniform interval, or a list of choices.

    Attributes:
        low, high: ends of the interval.
        log: the interval is one of logarithms.
        points: values of the interval in a grid, its ends among them, evenly spaced.
        choices: the values, instead of an interval.

    """

    low: float | None = None
    high: float | None = None
    log: bool = True
    points: Annotated[int, Field(ge=2, le=1000)] | None = None
    choices: Annotated[tuple[Value, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _interval_or_choices(self) -> "Range":
        interval = self.low is not None and self.high is not None
        half = (self.low is None) != (self.high is None)
        if half or interval == (self.choices is not None):
            raise ValueError("a range is either low and high, or choices")
        if self.choices is not None and len({repr(one) for one in self.choices}) < len(
            self.choices
        ):
            raise ValueError(f"choices must be different values, got {list(self.choices)}")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low must be < high, got {self.low} and {self.high}")
        if self.log and self.low is not None and self.low <= 0:
            raise ValueError(f"low of a log-uniform range must be > 0, got {self.low}")
        if self.points is not None and self.choices is not None:
            raise ValueError(f"points are of an interval, got {self.points} of choices")
        return self

    def interval(self) -> tuple[float, float]:
        """Return the ends of the interval."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def grid(self) -> tuple[Value, ...]:
        """Return the choices, or the `points` of the interval.

        >>> Range(low=0.01, high=1, points=3).grid()
        (0.01, 0.1, 1.0)
        """
        if self.choices is not None:
            return self.choices
        assert self.points is not None
        low, high = self.interval()
        shares = [at / (self.points - 1) for at in range(1, self.points - 1)]
        if self.log:
            between = [math.exp((1 - t) * math.log(low) + t * math.log(high)) for t in shares]
        else:
            between = [(1 - t) * low + t * high for t in shares]
        shown = (float(f"{value:.6g}") for value in between)
        # What people read is rounded, unless the interval is too narrow for that.
        near = [a if low < a < high else b for a, b in zip(shown, between, strict=True)]
        points = (low, *near, high)
        return points if len(set(points)) == len(points) else (low, *between, high)


class Sweep(Settings):
    """The `sweep` section: Ray Tune over dotted keys.

    Trials are judged on validation users, or on folds, as `evaluate` judges test users, after every
    rung.

    Attributes:
        space: the values of each key.
        search: `random` draws `trials` of them; `optuna` as many, the later ones near those that
            were good; `grid` tries every combination of all `choices` and `points`.
        scheduler: which trials stop at a rung: of `asha` the worse half, of `median` those below
            the median of the others so far, of `none` none.
        trials: of a search that is no grid.
        steps: of each trial.
        rungs: equal parts of the steps after which a trial is judged.
        folds: parts that the training users, those of validation among them, are dealt to: a trial
            trains once without each, is judged on the users it was left without, and compared by
            the mean. None for one training, judged on the validation users.
        vectorised: trials that differ in rates alone (`train.outer_lr`, `train.weight_decay`,
            `train.max_gradient_norm`, `model.init_scale`, numbers of the learner that are not
            whole) are trained together in one process, on the same tasks. Choices of other keys
            make groups of their own, and stopping at a rung is decided within a group.
        max_concurrent: trials beside each other; None for one a CPU of the cluster.
        cpus_per_trial: CPUs that a trial asks for; less than one leaves room for whoever waits for
            it.
        mlflow: tracking URI of MLflow, for the sweep and its trials; None for no tracking there.
            Also called `tune.mlflow`.

    """

    space: Annotated[dict[str, Range], Field(min_length=1)] = Field(
        default={"train.outer_lr": Range(low=1e-3, high=1e-1)}
    )
    search: Literal["random", "grid", "optuna"] = "random"
    scheduler: Literal["asha", "median", "none"] = "asha"
    trials: PositiveInt = 8
    steps: PositiveInt = 200
    rungs: Annotated[int, Field(ge=1, le=10)] = 4
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    vectorised: bool = False
    max_concurrent: PositiveInt | None = None
    cpus_per_trial: PositiveFloat = 0.5
    mlflow: TrackingUri | None = None

    @property
    def planned(self) -> int:
        """Number of trials."""
        if self.search != "grid":
            return self.trials
        return math.prod(len(values.grid()) for values in self.space.values())

    @model_validator(mode="after")
    def _a_grid_has_its_values(self) -> "Sweep":
        grid = self.search == "grid"
        if grid and self.trials != Sweep.model_fields["trials"].default:
            raise ValueError(
                f"trials are of search random or optuna, a grid has its own, got {self.trials}"
            )
        for key, values in self.space.items():
            if values.choices is None and grid != (values.points is not None):
                have = "have points in a grid" if grid else "have points in a grid only"
                raise ValueError(f"intervals must {have}, got {values.points} for {key}")
        if self.planned > MOST_TRIALS:
            raise ValueError(f"a grid is of {MOST_TRIALS:,} trials at most, got {self.planned:,}")
        return self
