"""Settings of data sets whose layout is known by the names of their files.

Knows what to ask of a layout; does not look at a value.
"""

from pathlib import Path

from metarec_ray.data.datasets import layouts, movielens
from metarec_ray.data.datasets.movielens import Layout
from metarec_ray.data.files import separated
from metarec_ray.data.guess.finding import Finding, Tree
from metarec_ray.data.text_format import TextFormat


def find(path: Path) -> Layout | None:
    """Return the layout of a folder, None for none."""
    found = layouts.detect(path) if path.is_dir() else None
    if found is None or not found.log.endswith(".csv"):
        return found
    # Many a log is called ratings.csv.
    names = separated.head(str(path / found.log), TextFormat()).names
    return found if set(movielens.CSV_COLUMNS) <= set(names) else None


def section(layout: Layout, given: str) -> Tree:
    """Return the `data` section of a folder in a known layout."""
    sides = " and ".join(one for one in (layout.items, layout.users) if one is not None)
    why = f"the layout of {layout.name}, which needs no columns: {layout.log}, {sides}"
    (feedback, said), *others = layouts.feedback(layout).items()
    return {
        "path": Finding(given, why),
        "feedback": Finding(feedback, said, tuple(others)),
    }
