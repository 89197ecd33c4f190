from metarec_ray.report.bench_markdown import markdown
from tests.unit.report.bench_rows import rows


def test_the_markdown_has_a_line_a_method_and_says_what_is_better():
    lines = markdown(rows()).splitlines()
    assert "| ours | learner | 2 | 0.2000+* +- 0.0100 | 0.2000+* +- 0.0100 |" in lines
    assert "| random | floor | 2 | 0.0100~ +- 0.0100 | 0.0100~ +- 0.0100 |" in lines
    assert "| ours | `metarec bench x.yaml --learners ours` |" in lines
