"""The section `sweep`: which keys are tried, with which values.

Knows ranges and their rules; does not know how values are drawn, or what is trained.
"""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from metarec_ray.data.setting_types import Settings


class Range(Settings):
    """Values of one key of a sweep: a log-uniform or uniform interval, or a list of choices."""

    low: float | None = None
    high: float | None = None
    log: bool = True
    choices: tuple[bool | int | float | str | None, ...] | None = None

    @model_validator(mode="after")
    def _interval_or_choices(self) -> "Range":
        interval = self.low is not None and self.high is not None
        if interval == (self.choices is not None):
            raise ValueError("a range is either low and high, or choices")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low must be < high, got {self.low} and {self.high}")
        if self.log and self.low is not None and self.low <= 0:
            raise ValueError(f"low of a log-uniform range must be > 0, got {self.low}")
        return self


class Sweep(Settings):
    """The `sweep` section: Ray Tune with ASHA over dotted keys.

    Trials are judged on validation users as `evaluate` judges test users, after every rung.
    """

    space: Annotated[dict[str, Range], Field(min_length=1)] = Field(
        default={"train.outer_lr": Range(low=1e-3, high=1e-1)}
    )
    trials: PositiveInt = 8
    steps: PositiveInt = 200
    rungs: Annotated[int, Field(ge=1, le=10)] = 4
    max_concurrent: PositiveInt = 2
    cpus_per_trial: PositiveFloat = 0.5
