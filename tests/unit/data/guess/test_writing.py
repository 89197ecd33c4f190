"""A guess as YAML and as lines."""

import yaml

from metarec_ray.data.guess.finding import ABSENT, FILL, Finding
from metarec_ray.data.guess.guess import Guess
from metarec_ray.data.guess.writing import experiment, shown

GUESS = Guess(
    {
        "path": Finding("my log.csv", "9 rows"),
        "separator": Finding("\t"),
        "columns": {
            "entity": Finding(FILL, "one of a, b"),
            "item": Finding("b: c", "by its name", (("a", "if it is the item"),)),
            "label": Finding(ABSENT, "", (("stars", "with feedback: explicit"),)),
        },
        "context": {"xyz": Finding(ABSENT, "", (({"kind": "numeric"}, "1 to 5"),))},
    },
    "all 9 rows of my log.csv",
    {"zip": "text"},
)


def test_the_yaml_has_the_reasons_and_the_other_readings_as_comments() -> None:
    lines = experiment(GUESS, source="my log.csv", folder="runs/my").splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "# Guessed by `metarec init my log.csv` from all 9 rows of my log.csv.",
        "# A line that is a comment is another reading of the one above it.",
        "run:",
        "dir: runs/my",
        "data:",
        "path: my log.csv # 9 rows",
        'separator: "\\t"',
        "columns:",
        "entity: # FILL IN: one of a, b",
        "item: 'b: c' # by its name",
        "# item: a # if it is the item",
        "# label: stars # with feedback: explicit",
        "# context:",
        "# xyz: {kind: numeric} # 1 to 5",
        "",
        "# Not used:",
        "# zip: text",
    ]
    assert yaml.safe_load("\n".join(lines)) == {
        "run": {"dir": "runs/my"},
        "data": {
            "path": "my log.csv",
            "separator": "\t",
            "columns": {"entity": None, "item": "b: c"},
        },
    }


def test_a_terminal_shows_what_was_guessed_what_was_not_and_what_to_do() -> None:
    lines = [" ".join(line.split()) for line in shown(GUESS, "e.yaml").splitlines()]
    assert lines == [
        "read: all 9 rows of my log.csv",
        "",
        "guessed, of `data`",
        "path my log.csv 9 rows",
        'separator "\\t"',
        "columns.item 'b: c' by its name",
        "",
        "or, a comment in the file",
        "columns.item a if it is the item",
        "columns.label stars with feedback: explicit",
        "context.xyz {kind: numeric} 1 to 5",
        "",
        "to fill in, it cannot be told from the file",
        "columns.entity one of a, b",
        "",
        "not used",
        "zip text",
        "",
        "written: e.yaml",
        "fill in the keys above, then metarec data check e.yaml",
    ]
