"""The layouts of files in a folder that are read without a word in the config.

Knows their names; what lies in their files is `movielens`' and `amazon`'s business.
"""

from pathlib import Path

from metarec_ray.data.datasets import amazon, movielens
from metarec_ray.data.datasets.movielens import Layout
from metarec_ray.data.settings import Data

LAYOUTS = (*movielens.LAYOUTS, amazon.LAYOUT)


def detect(folder: Path) -> Layout | None:
    """Return the layout whose log and item files lie in the folder, or None."""
    for layout in LAYOUTS:
        if (folder / layout.log).is_file() and (folder / layout.items).is_file():
            return layout
    return None


def named(name: str) -> Layout:
    """Return the layout of a name that `detect` found."""
    return next(one for one in LAYOUTS if one.name == name)


def effective(settings: Data, layout: Layout, folder: Path) -> Data:
    """Fill in what the config leaves open."""
    if layout is amazon.LAYOUT:
        return amazon.effective(settings, layout)
    return movielens.effective(settings, layout, folder)
