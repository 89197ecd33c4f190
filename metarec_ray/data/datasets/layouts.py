"""File layouts that are recognised by their file names, so that the config need not name columns.

Does not know what is in the files (`movielens`, `amazon`).
"""

from pathlib import Path

from metarec_ray.data.datasets import amazon, movielens
from metarec_ray.data.datasets.movielens import Layout
from metarec_ray.data.settings import Data

LAYOUTS = (*movielens.LAYOUTS, amazon.LAYOUT)


def detect(folder: Path) -> Layout | None:
    """Return the layout whose log and item files are in the folder, or None."""
    for layout in LAYOUTS:
        if (folder / layout.log).is_file() and (folder / layout.items).is_file():
            return layout
    return None


def named(name: str) -> Layout:
    """Return the layout of that name, one that `detect` returned."""
    return next(one for one in LAYOUTS if one.name == name)


def effective(settings: Data, layout: Layout, folder: Path) -> Data:
    """Return the settings with the defaults of a layout."""
    if layout is amazon.LAYOUT:
        return amazon.effective(settings, layout)
    return movielens.effective(settings, layout, folder)
