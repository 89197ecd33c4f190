"""Charts as inline SVG: the same numbers give the same text, letter for letter."""

from metarec_ray.figures.charts import bars, line, scatter
from metarec_ray.figures.curves import Curve, Point, Role, k_curves, k_curves_narrow
from metarec_ray.figures.dots import dots
from metarec_ray.figures.svg import require

__all__ = [
    "Curve",
    "Point",
    "Role",
    "bars",
    "dots",
    "k_curves",
    "k_curves_narrow",
    "line",
    "require",
    "scatter",
]
