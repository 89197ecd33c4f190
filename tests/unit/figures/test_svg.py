import re
import subprocess
import sys

import pytest

from metarec_ray.figures import charts


@pytest.fixture(scope="module")
def small() -> str:
    return charts.line([(1, 2.0), (2, 3.0)], title="loss", x="step")


def test_the_same_numbers_give_the_same_text_in_another_process(small: str) -> None:
    code = (
        "from metarec_ray.figures import charts;"
        "print(charts.line([(1, 2.0), (2, 3.0)], title='loss', x='step'), end='')"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert small == other.stdout


def test_a_users_settings_of_matplotlib_neither_change_a_chart_nor_are_changed() -> None:
    import matplotlib  # here, as in the package: only who draws waits for it

    plain = charts.bars({"1": 0.5}, title="regret", x="k")
    with matplotlib.rc_context({"font.size": 33, "axes.facecolor": "red"}):
        assert charts.bars({"1": 0.5}, title="regret", x="k") == plain
        assert matplotlib.rcParams["font.size"] == 33


def test_nothing_outside_the_page_is_named(small: str) -> None:
    assert "http" not in small
    assert "<style" not in small
    assert "<metadata" not in small


def test_two_charts_share_no_id(small: str) -> None:
    other = charts.line([(1, 3.0)], title="loss", x="step")
    ids = [set(re.findall(r'\bid="([^"]*)"', svg)) for svg in (small, other)]
    assert ids[0]
    assert ids[0].isdisjoint(ids[1])
