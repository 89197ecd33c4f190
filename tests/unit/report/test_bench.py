from metarec_ray.report.bench import bench_page
from tests.unit.report.bench_rows import rows


def test_the_page_draws_curves_and_escapes_names():
    page = bench_page(rows())
    assert "ours: better than the best rival somewhere" in page
    assert "&lt;ease&gt;" in page
    assert "<ease>" not in page
    assert page.count("<svg") == 2


def test_a_control_stands_in_the_table_and_not_in_the_chart():
    control = [{**row, "method": "ours:target_only", "kind": "control"} for row in rows()[-2:]]
    page = bench_page([*rows(), *control])
    chart = page[page.index("<svg") : page.index("</svg>")]
    assert "ours:target_only" in page
    assert "ours:target_only" not in chart


def test_the_page_of_ratings_draws_a_line_a_method():
    shown = [
        {**row, "scenario": "user_cold", "rmse": row["ndcg@10"], "k": None}
        for row in rows()
        if row["k"] == 3
    ]
    for row in shown:
        del row["ndcg@10"], row["k"]
    page = bench_page(shown)
    assert page.count("<svg") == 1
    assert "RMSE, user_cold" in page
