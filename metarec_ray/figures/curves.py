"""Charts of a metric by the number of known events, with all methods.

Knows means and intervals; does not know how they were measured.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from metarec_ray.figures.svg import COLORS, HUES, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Role = Literal["main", "learner", "rival", "floor", "optimum"]
WIDE, NARROW = (880, 460), (380, 430)  # pixels of the page
_MARKERS = "sD^vPX<>"


class Point(NamedTuple):
    """A mean with its interval; without an interval, `low` and `high` equal the mean."""

    value: float
    low: float
    high: float


class Curve(NamedTuple):
    """One method: its points by k."""

    name: str
    role: Role
    points: Mapping[int, Point]


def k_curves(curves: Sequence[Curve], label: str, *, metric: str = "NDCG@10") -> str:
    """Return a wide chart of the curves, each named at its right end."""

    def draw(axes: "Axes") -> None:
        _draw_curves(axes, curves, metric)
        _name_ends(axes, curves)

    return render(draw, WIDE, label)


def k_curves_narrow(curves: Sequence[Curve], label: str, *, metric: str = "NDCG@10") -> str:
    """Return a narrow chart of the curves, for phones, with names below."""

    def draw(axes: "Axes") -> None:
        _draw_curves(axes, curves, metric)
        figure = axes.figure
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=11)

    return render(draw, NARROW, label)


def _draw_curves(axes: "Axes", curves: Sequence[Curve], metric: str) -> None:
    ks = sorted({k for curve in curves for k in curve.points})
    place = {k: float(i) for i, k in enumerate(ks)}
    for i, curve in enumerate(curves):
        shift = 0.0 if curve.role in ("main", "optimum") else 0.03 * (i - (len(curves) - 1) / 2)
        _draw_curve(axes, curve, [place[k] + shift for k in sorted(curve.points)], i)
    axes.set_xticks(list(place.values()), [str(k) for k in ks])
    axes.set_xlabel("k, events known of the new user")
    axes.set_ylabel(metric)
    axes.margins(x=0.03)
    axes.grid(visible=False, axis="x")


def _draw_curve(axes: "Axes", curve: Curve, x: list[float], i: int) -> None:
    points = [curve.points[k] for k in sorted(curve.points)]
    y, low, high = ([point[j] for point in points] for j in range(3))
    color, name = color_of(curve.role, i), curve.name
    if curve.role == "main":
        axes.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
        axes.plot(x, y, color=color, lw=3.2, marker="o", ms=7, zorder=5, label=name)
    elif curve.role == "optimum":
        axes.plot(x, y, color=color, lw=2, ls=":", label=name)
    else:
        dashes = "--" if curve.role == "floor" else "-"
        width = 1.9 if curve.role == "learner" else 1.3
        marker = _MARKERS[i % len(_MARKERS)]
        axes.vlines(x, low, high, color=color, lw=1.3)
        axes.plot(x, y, color=color, lw=width, ls=dashes, marker=marker, ms=4.5, label=name)


def color_of(role: Role, i: int) -> str:
    """Return the colour of a role; rivals take turns."""
    names = {"main": "accent", "learner": "second", "floor": "muted", "optimum": "ink"}
    return COLORS[names.get(role, f"rival-{i % HUES}")]


def _name_ends(axes: "Axes", curves: Sequence[Curve]) -> None:
    """Write each name beside its last point; names that would overlap are moved apart."""
    axes.set_xlim(axes.get_xlim())
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)
    ends = sorted(
        (curve.points[max(curve.points)].value, i) for i, curve in enumerate(curves) if curve.points
    )
    heights = apart([(value - bottom) / (top - bottom) for value, _ in ends], gap=17 / WIDE[1])
    for (value, i), height in zip(ends, heights, strict=True):
        curve = curves[i]
        color = color_of(curve.role, i)
        axes.annotate(
            curve.name,
            xy=(1.0, (value - bottom) / (top - bottom)),
            xytext=(1.035, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=color,
            va="center",
            weight="bold" if curve.role == "main" else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "lw": 0.7,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 0,
            },
        )


def apart(heights: Sequence[float], *, gap: float) -> list[float]:
    """Return ascending heights of at most 1, moved as little as needed to be `gap` apart."""
    up, down = _pushed(heights, gap), _pushed([-height for height in reversed(heights)], gap)
    middle = [(low - high) / 2 for low, high in zip(up, reversed(down), strict=True)]
    capped = _pushed([max(-height, -1.0) for height in reversed(middle)], gap)
    return [-height for height in reversed(capped)]


def _pushed(heights: Sequence[float], gap: float) -> list[float]:
    found: list[float] = []
    for height in heights:
        found.append(max(height, found[-1] + gap) if found else height)
    return found
