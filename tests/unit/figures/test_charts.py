from metarec_ray.figures import charts
from tests.unit.figures.svg_text import texts


def test_names_that_look_like_markup_or_mathematics_stay_names() -> None:
    svg = charts.scatter([(1.0, 2.0)], 0, title="<script> $x_1$ & co", metric="a<b")
    assert "<script>" not in svg
    assert {"<script> $x_1$ & co", "a<b"} <= set(texts(svg))


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
