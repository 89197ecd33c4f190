import re

import pytest

from metarec_ray.figures import curves
from metarec_ray.figures.curves import Curve, Point, apart
from tests.unit.figures.svg_text import texts

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


@pytest.fixture(scope="module")
def wide() -> str:
    return curves.k_curves(CURVES, "NDCG@10 by k")


def test_a_chart_is_well_formed_and_its_text_stays_text(wide: str) -> None:
    assert {"optimum", "random", "popularity", "ease", "maml", "NDCG@10"} <= set(texts(wide))


def test_the_narrow_chart_names_every_curve_too() -> None:
    assert {found.name for found in CURVES} <= set(texts(curves.k_curves_narrow(CURVES, "by k")))


def test_colours_are_properties_of_the_page(wide: str) -> None:
    assert "stroke: var(--accent)" in wide
    assert set(re.findall(r"#[0-9a-f]{6}\b", wide)) <= {"#ffffff"}


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
