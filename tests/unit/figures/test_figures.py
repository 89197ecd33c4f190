import re
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import pytest

from metarec_ray.figures import charts, curves
from metarec_ray.figures.curves import Curve, Point, apart

KS = (0, 1, 3)


def curve(name: str, role: curves.Role, *values: float) -> Curve:
    return Curve(
        name, role, {k: Point(v, v - 0.01, v + 0.01) for k, v in zip(KS, values, strict=True)}
    )


CURVES = [
    curve("optimum", "optimum", 0.2, 0.25, 0.3),
    curve("random", "floor", 0.01, 0.01, 0.01),
    curve("popularity", "rival", 0.08, 0.08, 0.08),
    curve("ease", "rival", 0.02, 0.07, 0.081),
    curve("maml", "main", 0.1, 0.15, 0.2),
]


def texts(svg: str) -> list[str]:
    tree = ElementTree.fromstring(svg.replace("xlink:href", "href"))
    return [element.text or "" for element in tree.iter("text")]


def test_a_chart_is_well_formed_and_its_text_stays_text() -> None:
    svg = curves.k_curves(CURVES, "NDCG@10 by k")
    assert {"optimum", "random", "popularity", "ease", "maml", "NDCG@10"} <= set(texts(svg))


def test_the_narrow_chart_names_every_curve_too() -> None:
    assert {found.name for found in CURVES} <= set(texts(curves.k_curves_narrow(CURVES, "by k")))


def test_the_same_numbers_give_the_same_text_in_another_process() -> None:
    code = (
        "from metarec_ray.figures import charts;"
        "print(charts.line([(1, 2.0), (2, 3.0)], title='loss', x='step'), end='')"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert charts.line([(1, 2.0), (2, 3.0)], title="loss", x="step") == other.stdout


def test_a_users_settings_of_matplotlib_neither_change_a_chart_nor_are_changed() -> None:
    plain = charts.bars({"1": 0.5}, title="regret", x="k")
    with matplotlib.rc_context({"font.size": 33, "axes.facecolor": "red"}):
        assert charts.bars({"1": 0.5}, title="regret", x="k") == plain
        assert matplotlib.rcParams["font.size"] == 33


def test_colours_are_properties_of_the_page() -> None:
    svg = curves.k_curves(CURVES, "by k")
    assert "stroke: var(--accent)" in svg
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#ffffff"}


def test_nothing_outside_the_page_is_named() -> None:
    svg = charts.line([(1, 2.0)], title="loss", x="step")
    assert "http" not in svg
    assert "<style" not in svg
    assert "<metadata" not in svg


def test_names_that_look_like_markup_or_mathematics_stay_names() -> None:
    svg = charts.scatter([(1.0, 2.0)], 0, title="<script> $x_1$ & co", metric="a<b")
    assert "<script>" not in svg
    assert {"<script> $x_1$ & co", "a<b"} <= set(texts(svg))


def test_two_charts_share_no_id() -> None:
    first, second = (charts.line([(1, y)], title="loss", x="step") for y in (2.0, 3.0))
    ids = [set(re.findall(r'\bid="([^"]*)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert ids[0].isdisjoint(ids[1])


def test_a_long_log_is_thinned_and_keeps_its_last_step() -> None:
    few = charts.line([(float(x), 0.0) for x in range(401)], title="loss", x="step")
    many = charts.line([(float(x), float(x % 2)) for x in range(40_001)], title="loss", x="step")
    assert len(many) < 3 * len(few) + 20_000


def test_settings_over_a_decade_stand_on_a_logarithmic_axis() -> None:
    wide = charts.scatter([(0.001, 1.0), (0.1, 2.0)], 1, title="lr", metric="m")
    near = charts.scatter([(0.01, 1.0), (0.02, 2.0)], 1, title="lr", metric="m")
    assert {"0.001", "0.003", "0.01", "0.03", "0.1"} <= set(texts(wide))
    assert {"0.010", "0.012", "0.014"} <= set(texts(near))
    assert not any("$" in text for text in texts(wide))


def test_settings_that_are_names_stand_on_an_axis_of_names() -> None:
    svg = charts.scatter([("maml", 1.0), (True, 2.0)], 1, title="algorithm.name", metric="m")
    assert {"maml", "True"} <= set(texts(svg))


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0.1, 0.5], [0.1, 0.5]),
        ([0.5, 0.5, 0.5], [0.5 - 0.1, 0.5, 0.5 + 0.1]),
        ([0.2, 0.98, 0.99], [0.2, 1.0 - 0.1, 1.0]),
        ([], []),
    ],
)
def test_names_at_the_ends_are_moved_apart(heights: list[float], expected: list[float]) -> None:
    assert apart(heights, gap=0.1) == pytest.approx(expected)


def test_one_k_is_a_chart_too() -> None:
    alone = Curve("maml", "main", {5: Point(0.2, 0.1, 0.3)})
    assert "maml" in texts(curves.k_curves([alone], "by k"))
