"""From a matplotlib drawing to an `<svg>` element of the page.

Knows matplotlib's SVG; does not know what is drawn. Colours are custom properties of the page
(`var(--ink)`), so that one chart suits light and dark screens and print; text stays text.
"""

import hashlib
import io
import re
from collections.abc import Callable
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING

from metarec_ray.errors import MachineError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

HUES = 8  # of the rivals

# matplotlib needs real colours: it draws with these, which the page's names then replace.
COLORS = {
    name: f"#{0x0A0B00 + i:06x}"
    for i, name in enumerate(
        ("ink", "muted", "grid", "accent", "second", *(f"rival-{i}" for i in range(HUES)))
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
    "grid.color": COLORS["grid"],
    "axes.edgecolor": COLORS["muted"],
    "axes.labelcolor": COLORS["muted"],
    "axes.titlecolor": COLORS["ink"],
    "text.color": COLORS["ink"],
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
    "axes.axisbelow": True,
}


def require() -> None:
    """Raise a MachineError if matplotlib, an optional package, is not installed."""
    if find_spec("matplotlib") is None:
        raise MachineError(
            "charts need matplotlib, which is not installed: pip install 'metarec_ray[report]'"
        )


def render(draw: Callable[["Axes"], None], size: tuple[int, int], label: str) -> str:
    """Return the drawing of `draw`, `size` pixels large; `label` is for screen readers.

    Raises:
        MachineError: matplotlib, an optional package, is not installed.

    """
    require()
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # so that a user's matplotlibrc does not change the chart
        matplotlib.rcParams.update({**_RC, "svg.hashsalt": label})
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        draw(figure.subplots())
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), size, label)


def _inline(text: str, size: tuple[int, int], label: str) -> str:
    """Return the `<svg>` element without prolog and style rules, with ids unique to the chart."""
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<(metadata|style)\b.*?</\1>", "", body, flags=re.DOTALL)
    own = hashlib.sha256((label + body).encode("utf-8", "replace")).hexdigest()[:8]
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\1c{own}-", body)
    for name, stand_in in COLORS.items():
        body = body.replace(stand_in, f"var(--{name})")
    width, height = size
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{body}'
