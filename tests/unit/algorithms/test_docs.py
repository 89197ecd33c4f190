"""docs/algorithms.md against the union of algorithms."""

import json
import re
from pathlib import Path

import pytest

from metarec_ray.evaluation.bench.lineup import algorithms

PAGE = Path(__file__).parents[3] / "docs" / "algorithms.md"
HEADING = re.compile(r"^### `([^`]+)`$", re.MULTILINE)
ITEM = r"^(?:- )?{}:(.*(?:\n  .*)*)$"  # a line and what continues it, indented


def sections() -> list[tuple[str, str]]:
    """Return (name, text) of every section; a heading of groups ends one, too."""
    parts = HEADING.split(PAGE.read_text("utf-8"))[1:]
    texts = (text.split("\n## ")[0] for text in parts[1::2])
    return list(zip(parts[::2], texts, strict=True))


def lines(text: str, label: str) -> list[str]:
    """Return what follows `label:` in a section."""
    return re.findall(ITEM.format(label), text, re.MULTILINE)


def test_every_member_of_the_union_has_exactly_one_section_and_every_section_is_a_member() -> None:
    assert sorted(name for name, _ in sections()) == sorted(algorithms())


@pytest.mark.parametrize(("name", "text"), sections(), ids=[name for name, _ in sections()])
def test_the_settings_of_a_section_are_fields_of_the_learner(name: str, text: str) -> None:
    named = [token for line in lines(text, "Settings") for token in re.findall("`([^`]+)`", line)]
    assert set(named) <= set(algorithms()[name].model_fields) - {"name"}


@pytest.mark.parametrize(("name", "text"), sections(), ids=[name for name, _ in sections()])
def test_the_feedback_of_a_section_is_what_the_learner_suits(name: str, text: str) -> None:
    suits = algorithms()[name].suits
    assert all(line.strip() == ", ".join(suits) for line in lines(text, "Feedback"))


@pytest.mark.parametrize(("name", "text"), sections(), ids=[name for name, _ in sections()])
def test_what_is_said_to_be_measured_stands_in_the_committed_tables(name: str, text: str) -> None:
    said = re.findall(r"^.*: (.*) \(\[table\]\(\.\./(.*)\.md\)\)\.$", text, re.MULTILINE)
    assert said
    for numbers, table in said:
        rows = json.loads((PAGE.parent.parent / f"{table}.json").read_text("utf-8"))["rows"]
        own = [row for row in rows if row["method"] == name]
        shown = [f"{row['rmse']:.3f}" if "rmse" in row else f"{row['ndcg@10']:.4f}" for row in own]
        found = re.findall(r"(?<!\w)\d?\.\d+", numbers)
        assert [number.removeprefix("0") for number in found] == [
            n.removeprefix("0") for n in shown
        ]


def test_a_setting_on_a_continued_line_is_read() -> None:
    assert lines("- Settings: `a`,\n  `b`\n- Paper: `c`\n", "Settings") == [" `a`,\n  `b`"]
