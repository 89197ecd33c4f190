"""Charts of a search over several settings: all of them side by side, and two against each other.

Knows values and a metric, best first; does not know what was tried, or why.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from metarec_ray.figures.svg import COLORS, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE, SQUARE = (880, 340), (430, 340)  # pixels of the page
_FAINT = 0.12
_NAMED = 12  # points of the plane with their value beside them
_FEW = 4  # values of an axis that are all named
_DECADE = 10.0


def parallel(
    trials: Sequence[tuple[Mapping[str, object], float]], *, metric: str, label: str
) -> str:
    """Return one line per trial over an axis per setting and one for the metric.

    `trials` are values and metric, the best first; each has every key. The better one is, the
    darker its line. Positive numbers over more than a decade stand by their logarithm; what is no
    number by its name.
    """
    keys = list(trials[0][0])
    columns = [_places([values[key] for values, _ in trials]) for key in keys]
    columns.append(_places([value for _, value in trials]))

    def draw(axes: "Axes") -> None:
        for at in reversed(range(len(trials))):
            best = at == 0
            axes.plot(
                range(len(columns)),
                [places[at] for places, _ in columns],
                color=COLORS["accent" if best else "second"],
                lw=2.6 if best else 1.4,
                alpha=1.0 if best else _shade(at, len(trials)),
                marker="o",
                ms=6 if best else 3.5,
            )
        for x, (_, ticks) in enumerate(columns):
            axes.axvline(x, color=COLORS["muted"], lw=0.8, zorder=0)
            for height, name in ticks:
                axes.annotate(
                    name, (x, height), (-5, 0), textcoords="offset points", ha="right", va="center"
                )
        axes.set_xticks(range(len(columns)), [*keys, metric])
        axes.set_yticks([])
        axes.set_xlim(-0.35, len(columns) - 0.8)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.grid(visible=False)

    return render(draw, WIDE, label)


def plane(
    points: Sequence[tuple[float, float, float]], *, x: str, y: str, metric: str, label: str
) -> str:
    """Return two positive settings against each other on logarithmic axes.

    `points` are both and the metric, the best first: a star. The better one is, the darker its
    point.
    """

    def draw(axes: "Axes") -> None:
        for at, (across, up, _) in enumerate(points[1:], 1):
            shade = _shade(at, len(points))
            axes.scatter([across], [up], s=80, color=COLORS["second"], alpha=shade, lw=0)
        across, up, _ = points[0]
        axes.scatter([across], [up], s=240, marker="*", color=COLORS["accent"], lw=0)
        for across, up, value in points[:_NAMED]:
            axes.annotate(
                f"{value:.3g}", (across, up), (7, 5), textcoords="offset points", fontsize=9
            )
        for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
            scale("log")
            # By default powers of ten are written as TeX, which the page would show as source.
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        axes.margins(0.15)
        axes.set_title(metric)
        axes.set_xlabel(x)
        axes.set_ylabel(y)

    return render(draw, SQUARE, label)


def _shade(rank: int, count: int) -> float:
    """Return how dark the trial at a rank is, 0 the best, between `_FAINT` and 0.9."""
    return 0.9 - (0.9 - _FAINT) * rank / max(1, count - 1)


def _places(values: Sequence[object]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return the height of each value on its axis, 0 to 1, and the heights that have a name."""
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values):
        names = list(dict.fromkeys(str(value) for value in values))
        height = {name: (at + 0.5) / len(names) for at, name in enumerate(names)}
        return [height[str(value)] for value in values], [(h, n) for n, h in height.items()]
    low, high = min(numbers), max(numbers)
    if low == high:
        return [0.5] * len(numbers), [(0.5, f"{low:.4g}")]
    logarithmic = low > 0 and high > _DECADE * low
    on = [math.log(value) if logarithmic else value for value in numbers]
    heights = [(value - min(on)) / (max(on) - min(on)) for value in on]
    few = sorted(set(zip(heights, numbers, strict=True)))
    if len(few) <= _FEW:
        return heights, [(height, f"{value:.4g}") for height, value in few]
    middle = math.sqrt(low * high) if logarithmic else (low + high) / 2
    return heights, [(0.0, f"{low:.3g}"), (0.5, f"{middle:.3g}"), (1.0, f"{high:.3g}")]
