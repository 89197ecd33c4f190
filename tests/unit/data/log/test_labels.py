"""Labels by the rules of a log: the same for its rows and for the events of a request."""

from typing import Any

import polars as pl
import pytest

from metarec_ray.config.experiment import parse
from metarec_ray.data.files.parts import Part
from metarec_ray.data.log import labels
from metarec_ray.data.log.labels import LabelRules
from metarec_ray.data.log.validate import check
from metarec_ray.data.settings import Feedback
from metarec_ray.inference.events import Said, judge

EVENTS = [
    Said(kind="view"),
    Said(kind="buy"),
    Said(kind="return"),
    Said(kind="view"),
    Said(kind="fave"),
]
VALUES = [Said(0.0), Said(1.0), Said(-0.0), Said(3.1), Said(3.0999), Said(5.0), Said(0.5)]
WEIGHTS = {"view": 1.0, "buy": 5.0, "fave": 0.1}


@pytest.mark.parametrize(
    ("data", "events"),
    [
        ({"feedback": "explicit", "columns": {"label": "x"}}, VALUES),
        ({"feedback": "explicit", "columns": {"label": "x"}, "label_min": 3.1}, VALUES),
        ({"feedback": "implicit", "columns": {"label": "x"}, "label_min": 3.1}, VALUES),
        ({"feedback": "implicit", "columns": {"label": "x"}}, VALUES),
        ({"feedback": "binary", "columns": {"label": "x"}}, VALUES),
        ({"feedback": "binary", "columns": {"label": "x"}, "label_min": 0.7}, VALUES),
        ({"feedback": "explicit", "columns": {"event": "x"}, "event_weights": WEIGHTS}, EVENTS),
        ({"feedback": "implicit", "columns": {"event": "x"}, "event_weights": WEIGHTS}, EVENTS),
        (
            {
                "feedback": "explicit",
                "columns": {"event": "x"},
                "event_weights": WEIGHTS,
                "label_min": 0.1,
            },
            EVENTS,
        ),
    ],
)
def test_a_request_is_judged_as_the_rows_of_a_log(data: dict[str, Any], events: list[Said]) -> None:
    settings = parse({"data": data}, "here").data
    raw = pl.DataFrame(
        {
            "user": [0] * len(events),
            "item": list(range(len(events))),
            "x": [one.kind if one.value is None else one.value for one in events],
        }
    )
    checked = check(Part(raw, pl.int_range(len(raw), eager=True)), settings, file="log")
    found = judge(events, LabelRules.of(settings))
    bad = set(found.rejected)
    kept = [at for at in range(len(events)) if at not in found.filtered | bad]
    assert kept == checked.events["item"].to_list()
    assert [found.labels[at] for at in kept] == checked.events["label"].to_list()
    assert len(found.filtered) == sum(checked.tally.filtered.values())
    assert sorted(bad) == sorted(checked.rejected["row"].to_list())
    assert set(checked.rejected["reason"]) <= {"label is neither 0 nor 1"}


@pytest.mark.parametrize("feedback", ["binary", "implicit", "explicit"])
def test_columns_of_polars_and_of_numpy_have_the_same_rules(feedback: Feedback) -> None:
    rules = LabelRules(feedback=feedback, labelled=True, label_min=0.7)
    frame = pl.DataFrame({"x": [0.0, 1.0, 0.7, 0.6999, 5.0]}, schema={"x": pl.Float32})
    for rule in (labels.is_enough, labels.is_no_click, labels.learned):
        made = rule(frame["x"].to_numpy(), rules)
        asked = frame.select(rule(pl.col("x"), rules))["x"]
        assert made.tolist() == asked.to_list()
        assert asked.equals(rule(frame["x"], rules))
        assert str(made.dtype) == str(asked.to_numpy().dtype)


def test_a_label_that_is_missing_is_judged_by_nobody() -> None:
    rules = LabelRules(feedback="binary", label_min=1.0)
    missing = pl.Series([None], dtype=pl.Float32)
    assert labels.is_enough(missing, rules).to_list() == [None]
    assert labels.is_no_click(missing, rules).to_list() == [None]


def test_rules_of_settings_that_were_written_down_have_defaults() -> None:
    assert LabelRules.of_tree({"feedback": "implicit"}) == LabelRules(feedback="implicit")
    settings = parse({"data": {"columns": {"label": "x"}, "label_min": 2}}, "here").data
    expected = LabelRules(feedback="implicit", labelled=True, label_min=2.0)
    assert LabelRules.of(settings) == expected


def test_no_events_are_no_notes() -> None:
    assert judge([], LabelRules(feedback="implicit", label_min=1.0)).notes == []


def test_what_a_request_says_in_vain_is_noted() -> None:
    found = judge([Said(5.0, "buy"), Said(1.0), Said()], LabelRules(feedback="implicit"))
    assert found.labels == [1.0, 1.0, 1.0]
    assert found.filtered == set()
    assert found.notes == [
        "kinds of support events ignored, as none were learned from: 1",
        "values of support events ignored, as none were learned from: 1",
    ]
