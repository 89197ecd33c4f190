"""What the label of an event is, and which events count: for a log and for a request alike.

Knows labels, as columns of polars or, of few events, of NumPy, which is faster there; does not know
where events come from. Spans of time and side files select rows of a log only.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import polars as pl
from pydantic import Field

from metarec_ray.data.setting_types import Settings
from metarec_ray.data.settings import Data, Feedback

Column = TypeVar("Column", pl.Expr, pl.Series, np.ndarray)


class LabelRules(Settings):
    """What a log's settings say of labels.

    Attributes:
        feedback: what a label means.
        label_min: events with a smaller label are filtered.
        event_weights: the label of each kind of event; other kinds are filtered.
        labelled: whether the log says the label of an event, or its kind.

    """

    feedback: Feedback
    label_min: float | None = None
    event_weights: dict[str, float] = Field(default={})
    labelled: bool = False

    @classmethod
    def of(cls, settings: Data) -> "LabelRules":
        """Return the rules of settings."""
        return cls.of_tree(settings.model_dump(mode="json"))

    @classmethod
    def of_tree(cls, settings: Mapping[str, Any]) -> "LabelRules":
        """Return the rules of settings as a manifest keeps them; missing ones have defaults."""
        named = settings.get("columns") or {}
        return cls(
            feedback=settings["feedback"],
            label_min=settings.get("label_min"),
            event_weights=settings.get("event_weights") or {},
            labelled=bool(named.get("label") or named.get("event")),
        )


def is_enough(label: Column, rules: LabelRules) -> Column:
    """Return whether labels, float32, are large enough to count; null for a missing one."""
    least = float("-inf") if rules.label_min is None else float(np.float32(rules.label_min))
    return label >= least


def is_no_click(label: Column, rules: LabelRules) -> Column:
    """Return whether labels are neither 0 nor 1 where they must be; null for a missing one."""
    wrong = (label < 0.0) | ((label > 0.0) & (label < 1.0)) | (label > 1.0)
    return wrong if rules.feedback == "binary" else wrong & ~wrong


def learned(label: Column, rules: LabelRules) -> Column:
    """Return the labels, float32, that are learned from: with implicit feedback all are 1."""
    return label * 0.0 + 1.0 if rules.feedback == "implicit" else label
