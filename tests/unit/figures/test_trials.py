from metarec_ray.figures import trials
from metarec_ray.figures.trials import _places, _shade
from tests.unit.figures.svg_text import texts


def test_values_stand_by_their_logarithm_by_their_size_or_by_their_name() -> None:
    heights, ticks = _places([0.001, 0.01, 0.1])
    assert [round(height, 9) for height in heights] == [0.0, 0.5, 1.0]
    assert [name for _, name in ticks] == ["0.001", "0.01", "0.1"]
    assert _places([0.001, 0.002, 0.004, 0.05, 0.1])[1][1] == (0.5, "0.01")
    assert _places([1, 2, 3, 4, 6])[1] == [(0.0, "1"), (0.5, "3.5"), (1.0, "6")]
    assert [name for _, name in _places([16, 64, 32, 64])[1]] == ["16", "32", "64"]
    assert _places([2, 3, 6])[0] == [0.0, 0.25, 1.0]
    assert _places([0.0, 100.0, 50.0])[0] == [0.0, 1.0, 0.5]  # 0 has no logarithm
    assert _places(["b", None, "b"]) == ([0.25, 0.75, 0.25], [(0.25, "b"), (0.75, "None")])
    assert _places([True, False])[1] == [(0.25, "True"), (0.75, "False")]
    assert _places([3, 3]) == ([0.5, 0.5], [(0.5, "3")])


def test_the_better_a_trial_is_the_darker_it_is() -> None:
    shades = [_shade(rank, 5) for rank in range(5)]
    assert shades == sorted(shades, reverse=True)
    assert shades[-1] > 0
    assert 0 < _shade(0, 1) <= 1


def test_all_settings_stand_beside_each_other_with_the_metric() -> None:
    found = [({"a.<b>": 0.1, "model.name": "mlp"}, 2.0), ({"a.<b>": 0.001, "model.name": "x"}, 1)]
    svg = trials.parallel(found, metric="ndcg", label="Trials")
    assert {"a.<b>", "model.name", "ndcg", "0.001", "0.1", "mlp", "x", "1", "2"} <= set(texts(svg))
    assert "<b>" not in svg


def test_two_rates_stand_on_logarithmic_axes_with_the_values_of_the_best() -> None:
    points = [(0.01, 0.1, 0.25), (0.001, 1.0, 0.2)]
    svg = trials.plane(points, x="outer", y="inner", metric="ndcg", label="Rates")
    assert {"outer", "inner", "ndcg", "0.25", "0.2", "0.01", "0.1"} <= set(texts(svg))
    assert not any("$" in text for text in texts(svg))
    assert trials.plane(points[:1], x="outer", y="inner", metric="ndcg", label="Rates")
