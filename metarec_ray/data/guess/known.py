"""Settings of data sets whose layout is known by the names of their files.

Knows what to ask of a layout; does not look at a value.
"""

from pathlib import Path

from metarec_ray.data.datasets import layouts
from metarec_ray.data.datasets.movielens import Layout
from metarec_ray.data.guess.finding import Finding, Tree


def find(path: Path) -> Layout | None:
    """Return the layout of a folder, None for none."""
    return layouts.detect(path) if path.is_dir() else None


def section(layout: Layout, given: str) -> Tree:
    """Return the `data` section of a folder in a known layout."""
    sides = " and ".join(one for one in (layout.items, layout.users) if one is not None)
    why = f"the layout of {layout.name}, which needs no columns: {layout.log}, {sides}"
    (feedback, said), *others = layouts.feedback(layout).items()
    return {
        "path": Finding(given, why),
        "feedback": Finding(feedback, said, tuple(others)),
    }
