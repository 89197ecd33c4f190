import json
from pathlib import Path

import pytest

from metarec_ray.report.bench_markdown import markdown
from tests.unit.report.bench_rows import rows

TABLES = Path(__file__).parents[3] / "benchmarks/results/tables"


def test_the_markdown_has_a_line_a_method_and_says_what_is_better():
    lines = markdown(rows()).splitlines()
    assert "| ours | learner | 2 | 0.2000+* +- 0.0100 | 0.2000+* +- 0.0100 |" in lines
    assert "| random | floor | 2 | 0.0100~ +- 0.0100 | 0.0100~ +- 0.0100 |" in lines
    assert "| ours | `metarec bench x.yaml --learners ours` |" in lines


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.json")), ids=lambda path: path.stem)
def test_a_table_is_read_as_it_was_made(path: Path):
    # By its own words: older rows were corrected in another way.
    written = path.with_suffix(".md").read_text("utf-8")
    # After it may stand what others have published.
    assert "\n" + markdown(json.loads(path.read_text("utf-8"))["rows"]) in written


def test_marks_say_how_they_were_corrected():
    assert "`*` better than the best simple rival (corrected p < .05)." in markdown(rows())
    older = markdown(rows(p_bonferroni=0.01))
    assert "`*` better than the best simple rival (Bonferroni over k = 3, 5, 10)." in older
