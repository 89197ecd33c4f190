"""Charts as inline SVG: the same numbers give the same text, letter for letter.

Knows numbers and names; does not know where they come from. Colours are custom properties of the
page (`var(--ink)`), so one chart serves light, dark and paper; text stays text.
"""

import hashlib
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Literal, NamedTuple

from metarec_ray.errors import MachineError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

Role = Literal["main", "learner", "rival", "floor", "optimum"]
WIDE, NARROW = (880, 460), (380, 430)  # pixels of the page, where one unit is one pixel
_SMALL = (380, 250)
_HUES = 8
_MARKERS = "sD^vPX<>"
_MOST_POINTS = 400
_DECADE = 10.0  # a range wider than this is drawn on a logarithmic axis

# matplotlib wants real colours: it draws in these, and the page's names replace them.
_STAND_INS = {
    name: f"#{0x0A0B00 + i:06x}"
    for i, name in enumerate(
        ("ink", "muted", "grid", "accent", "second", *(f"rival-{i}" for i in range(_HUES)))
    )
}
_RC: "dict[RcKeyType, object]" = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.formatter.useoffset": False,
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _STAND_INS["grid"],
    "axes.edgecolor": _STAND_INS["muted"],
    "axes.labelcolor": _STAND_INS["muted"],
    "axes.titlecolor": _STAND_INS["ink"],
    "text.color": _STAND_INS["ink"],
    "xtick.color": _STAND_INS["muted"],
    "ytick.color": _STAND_INS["muted"],
    "axes.axisbelow": True,
}


class Point(NamedTuple):
    """A mean with its interval; without one, `low` and `high` equal it."""

    value: float
    low: float
    high: float


class Curve(NamedTuple):
    """One method: its points by k."""

    name: str
    role: Role
    points: Mapping[int, Point]


def k_curves(curves: Sequence[Curve], label: str) -> str:
    """Return the curves on a wide chart, each named at its right end."""

    def draw(axes: "Axes") -> None:
        _draw_curves(axes, curves)
        _name_ends(axes, curves)

    return _render(draw, WIDE, label)


def k_curves_narrow(curves: Sequence[Curve], label: str) -> str:
    """Return the same curves for a phone, named below the chart."""

    def draw(axes: "Axes") -> None:
        _draw_curves(axes, curves)
        figure = axes.figure
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=11)

    return _render(draw, NARROW, label)


def line(points: Sequence[tuple[float, float]], *, title: str, x: str) -> str:
    """Return one line; of many points every n-th is drawn, and the last."""
    stride = max(1, math.ceil(len(points) / _MOST_POINTS))
    shown = [*points[:-1:stride], *points[-1:]]

    def draw(axes: "Axes") -> None:
        marker = "o" if len(shown) < 25 else None
        axes.plot(*_columns(shown), color=_STAND_INS["accent"], lw=1.8, marker=marker, ms=3.5)
        axes.set_title(title)
        axes.set_xlabel(x)
        axes.margins(x=0.02)

    return _render(draw, _SMALL, title)


def bars(heights: Mapping[str, float], *, title: str, x: str) -> str:
    """Return one bar a name, its height written at its end."""

    def draw(axes: "Axes") -> None:
        drawn = axes.bar(list(heights), list(heights.values()), color=_STAND_INS["accent"])
        axes.bar_label(drawn, fmt="{:.3f}", padding=2, fontsize=11)
        axes.axhline(0, color=_STAND_INS["muted"], lw=0.8)
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.15)
        axes.set_title(title)
        axes.set_xlabel(x)

    return _render(draw, _SMALL, title)


def scatter(points: Sequence[tuple[object, float]], best: int, *, title: str, metric: str) -> str:
    """Return a metric by a setting's value, the best marked.

    Numbers that are positive and span more than a decade stand on a logarithmic axis; where one
    value is no number, all are names.
    """
    numbers = [
        float(v) for v, _ in points if isinstance(v, int | float) and not isinstance(v, bool)
    ]
    named = len(numbers) < len(points)
    x = [str(value) for value, _ in points] if named else numbers
    y = [value for _, value in points]

    def draw(axes: "Axes") -> None:
        axes.scatter(x, y, s=34, color=_STAND_INS["second"], alpha=0.7, lw=0)
        axes.scatter([x[best]], [y[best]], s=190, marker="*", color=_STAND_INS["accent"], lw=0)
        if not named and min(numbers) > 0 and max(numbers) > _DECADE * min(numbers):
            axes.set_xscale("log")
            # The default writes powers of ten as mathematics, which would show as source.
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
        axes.margins(0.12)
        axes.set_title(title)
        axes.set_ylabel(metric)

    return _render(draw, _SMALL, title)


def _draw_curves(axes: "Axes", curves: Sequence[Curve]) -> None:
    ks = sorted({k for curve in curves for k in curve.points})
    place = {k: float(i) for i, k in enumerate(ks)}
    for i, curve in enumerate(curves):
        shift = 0.0 if curve.role in ("main", "optimum") else 0.03 * (i - (len(curves) - 1) / 2)
        _draw_curve(axes, curve, [place[k] + shift for k in sorted(curve.points)], i)
    axes.set_xticks(list(place.values()), [str(k) for k in ks])
    axes.set_xlabel("k, events known of the new user")
    axes.set_ylabel("NDCG@10")
    axes.margins(x=0.03)
    axes.grid(visible=False, axis="x")


def _draw_curve(axes: "Axes", curve: Curve, x: list[float], i: int) -> None:
    points = [curve.points[k] for k in sorted(curve.points)]
    y, low, high = ([point[j] for point in points] for j in range(3))
    color, name = _color(curve.role, i), curve.name
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


def _color(role: Role, i: int) -> str:
    names = {"main": "accent", "learner": "second", "floor": "muted", "optimum": "ink"}
    return _STAND_INS[names.get(role, f"rival-{i % _HUES}")]


def _name_ends(axes: "Axes", curves: Sequence[Curve]) -> None:
    """Write each name beside its last point, moved apart where two would overlap."""
    axes.set_xlim(axes.get_xlim())
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)
    ends = sorted(
        (curve.points[max(curve.points)].value, i) for i, curve in enumerate(curves) if curve.points
    )
    heights = _apart([(value - bottom) / (top - bottom) for value, _ in ends], gap=17 / WIDE[1])
    for (value, i), height in zip(ends, heights, strict=True):
        curve = curves[i]
        color = _color(curve.role, i)
        axes.annotate(
            curve.name,
            xy=(1.0, (value - bottom) / (top - bottom)),
            xytext=(1.035, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=color,
            va="center",
            weight="bold" if curve.role == "main" else "normal",
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.7, "shrinkA": 1, "shrinkB": 0},
        )


def _apart(heights: Sequence[float], *, gap: float) -> list[float]:
    """Return ascending heights at least `gap` apart: pushed up first, then down from the top."""
    up: list[float] = []
    for height in heights:
        up.append(height if not up else max(height, up[-1] + gap))
    down: list[float] = []
    for height in reversed(up):
        down.append(min(height, 1.0) if not down else min(height, down[-1] - gap))
    return down[::-1]


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _render(draw: Callable[["Axes"], None], size: tuple[int, int], label: str) -> str:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MachineError(
            "charts need matplotlib, which is not installed: pip install 'metarec_ray[report]'"
        ) from error
    buffer = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the chart
        matplotlib.rcParams.update({**_RC, "svg.hashsalt": label})
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        draw(figure.subplots())
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), size, label)


def _inline(text: str, size: tuple[int, int], label: str) -> str:
    """Return the `<svg>` element alone: no prolog, no style rules, ids that no other chart has."""
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<(metadata|style)\b.*?</\1>", "", body, flags=re.DOTALL)
    own = hashlib.sha256((label + body).encode("utf-8", "replace")).hexdigest()[:8]
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\1c{own}-", body)
    for name, stand_in in _STAND_INS.items():
        body = body.replace(stand_in, f"var(--{name})")
    width, height = size
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{body}'
