"""Means with intervals, one line per method: the chart of a condition without k.

Knows means and intervals; does not know how they were measured.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from metarec_ray.figures.curves import Curve, Point, color_of
from metarec_ray.figures.svg import render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _LINE, _FRAME = 440, 24, 70  # pixels of the page


def dots(methods: Sequence[tuple[Curve, Point]], label: str, *, metric: str) -> str:
    """Return one line per method, the first on top, with names and roles of the curves."""

    def draw(axes: "Axes") -> None:
        for i, (curve, point) in enumerate(methods):
            of_role = color_of(curve.role, i)
            width = 3.0 if curve.role == "main" else 1.8
            axes.hlines(-i, point.low, point.high, color=of_role, lw=width)
            axes.plot([point.value], [-i], "o", color=of_role, ms=7)
        axes.set_yticks([-i for i in range(len(methods))], [curve.name for curve, _ in methods])
        axes.set_xlabel(metric)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.03)
        axes.set_ylim(-len(methods) + 0.4, 0.6)

    return render(draw, (_WIDTH, _FRAME + _LINE * len(methods)), label)
