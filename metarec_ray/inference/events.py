"""The events of a request by the rules of the log that was learned from.

Knows values and kinds of events; does not know items or requests.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metarec_ray.data.log import labels
from metarec_ray.data.log.labels import LabelRules


class Said(NamedTuple):
    """What a request says of an event: its value and its kind, None for what it does not say."""

    value: float | None = None
    kind: str | None = None


class Judged(NamedTuple):
    """Events as training would have seen them.

    Attributes:
        labels: of every event.
        filtered: positions of events that training would have filtered.
        rejected: positions of events that training would have rejected: clicks that are neither 0
            nor 1.
        notes: which rules filtered events, or could not be applied, with how many.

    """

    labels: list[float]
    filtered: set[int]
    rejected: list[int]
    notes: list[str]


def judge(events: Sequence[Said], rules: LabelRules) -> Judged:
    """Return the events by the rules."""
    weights = rules.event_weights
    label = np.array([_label(event, rules) for event in events], np.float32)
    # An event without a value is a click or a like, which `label_min` is not held against.
    said = np.array([event != (None, None) for event in events], bool)
    other = np.array([_is_other(event, rules) for event in events], bool)
    small = ~labels.is_enough(label, rules) & said & ~other
    wrong = labels.is_no_click(label, rules) & ~small & ~other
    notes = {
        "support events left out because their kind was not learned from": other.sum(),
        f"support events left out because their label is below label_min {rules.label_min}": (
            small.sum()
        ),
        "support events that do not say their kind, of which the value is the label": (
            sum(event.kind is None for event in events) if weights else 0
        ),
        "support events without a value, which count as 1 and not by label_min": (
            (~said).sum() if _asks_for_values(rules) else 0
        ),
        "kinds of support events ignored, as none were learned from": (
            0 if weights else sum(event.kind is not None for event in events)
        ),
        "values of support events ignored, as none were learned from": (
            0 if rules.labelled else sum(event.value not in (None, 1.0) for event in events)
        ),
    }
    return Judged(
        labels.learned(label, rules).tolist(),
        set(np.flatnonzero(other | small).tolist()),
        np.flatnonzero(wrong).tolist(),
        [f"{sentence}: {count}" for sentence, count in notes.items() if count],
    )


def _label(event: Said, rules: LabelRules) -> float:
    if rules.event_weights and event.kind is not None:
        return rules.event_weights.get(event.kind, 1.0)
    # One zero, as in a log: equal labels have equal bytes.
    return 1.0 if event.value is None or not rules.labelled else event.value + 0.0


def _is_other(event: Said, rules: LabelRules) -> bool:
    named = rules.event_weights
    return bool(named) and event.kind is not None and event.kind not in named


def _asks_for_values(rules: LabelRules) -> bool:
    """Return whether it matters that an event has no value."""
    if not rules.labelled or rules.event_weights:
        return False
    return rules.label_min is not None or rules.feedback == "explicit"
