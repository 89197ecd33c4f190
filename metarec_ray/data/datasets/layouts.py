"""File layouts that are recognised by their file names, so that the config need not name columns.

Does not know what is in the files (`movielens`, `amazon`, `netflix`, `mind`).
"""

from pathlib import Path

from metarec_ray.data.datasets import amazon, mind, movielens, netflix
from metarec_ray.data.datasets.movielens import Layout
from metarec_ray.data.settings import Data

LAYOUTS = (*movielens.LAYOUTS, amazon.LAYOUT, netflix.LAYOUT, mind.LAYOUT)
_EFFECTIVE = {one.LAYOUT.name: one.effective for one in (amazon, netflix, mind)}


def detect(folder: Path) -> Layout | None:
    """Return the layout whose log and item files are in the folder, or None."""
    for layout in LAYOUTS:
        if (folder / layout.log).is_file() and (folder / layout.items).is_file():
            return layout
    return None


def named(name: str) -> Layout:
    """Return the layout of that name, one that `detect` returned."""
    return next(one for one in LAYOUTS if one.name == name)


def feedback(layout: Layout) -> dict[str, str]:
    """Return the kinds of feedback that a layout can be read as, the usual one first, and why."""
    if layout is amazon.LAYOUT:
        return {"implicit": "purchases"}
    if layout is mind.LAYOUT:
        return {
            "binary": "clicks and what was shown without one",
            "implicit": "if clicks alone are",
        }
    return {
        "explicit": "ratings",
        "implicit": f"if ratings of {movielens.LABEL_MIN:g} and more are the signal",
    }


def effective(settings: Data, layout: Layout, folder: Path) -> Data:
    """Return the settings with the defaults of a layout."""
    if layout.name in _EFFECTIVE:
        return _EFFECTIVE[layout.name](settings, layout)
    return movielens.effective(settings, layout, folder)
