"""Small charts: a line, bars, a scatter.

Knows numbers and names; does not know where they come from.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from metarec_ray.figures.svg import COLORS, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = (380, 250)  # pixels of the page
_MOST_POINTS = 400
_DECADE = 10.0  # a wider range is drawn on a logarithmic axis
_FEW_DECADES = 1000.0  # a narrower range needs more labels than powers of ten


def line(points: Sequence[tuple[float, float]], *, title: str, x: str) -> str:
    """Return a line; of many points, every n-th and the last are drawn."""
    stride = max(1, math.ceil(len(points) / _MOST_POINTS))
    shown = [*points[:-1:stride], *points[-1:]]

    def draw(axes: "Axes") -> None:
        marker = "o" if len(shown) < 25 else None
        axes.plot(*_columns(shown), color=COLORS["accent"], lw=1.8, marker=marker, ms=3.5)
        axes.set_title(title)
        axes.set_xlabel(x)
        axes.margins(x=0.02)

    return render(draw, SMALL, title)


def bars(heights: Mapping[str, float], *, title: str, x: str) -> str:
    """Return one bar per name, with its value at the end."""

    def draw(axes: "Axes") -> None:
        drawn = axes.bar(list(heights), list(heights.values()), color=COLORS["accent"])
        axes.bar_label(drawn, fmt="{:.3f}", padding=2, fontsize=11)
        axes.axhline(0, color=COLORS["muted"], lw=0.8)
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.15)
        axes.set_title(title)
        axes.set_xlabel(x)

    return render(draw, SMALL, title)


def scatter(points: Sequence[tuple[object, float]], best: int, *, title: str, metric: str) -> str:
    """Return a metric by the value of a setting, with the best one marked.

    Positive numbers that span more than a decade are on a logarithmic axis; if any value is not a
    number, all are shown as names.
    """
    numbers = [
        float(v) for v, _ in points if isinstance(v, int | float) and not isinstance(v, bool)
    ]
    named = len(numbers) < len(points)
    x = [str(value) for value, _ in points] if named else numbers
    y = [value for _, value in points]

    def draw(axes: "Axes") -> None:
        axes.scatter(x, y, s=34, color=COLORS["second"], alpha=0.7, lw=0)
        axes.scatter([x[best]], [y[best]], s=190, marker="*", color=COLORS["accent"], lw=0)
        if not named and min(numbers) > 0 and max(numbers) > _DECADE * min(numbers):
            from matplotlib.ticker import LogLocator

            axes.set_xscale("log")
            if max(numbers) < _FEW_DECADES * min(numbers):
                axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            # By default powers of ten are written as TeX, which the page would show as source.
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
        axes.margins(0.12)
        axes.set_title(title)
        axes.set_ylabel(metric)

    return render(draw, SMALL, title)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
