"""Where a data set that is known by name lies: looked up first, fetched only then.

Knows names and folders; `data.fetch` knows addresses.
"""

from collections.abc import Callable
from pathlib import Path

from metarec_ray.data import fetch, movielens
from metarec_ray.errors import DataError

NAMES = tuple(fetch.SETS)
DEFAULT_FOLDER = Path("data")


def locate(name: str, data_dir: Path | None) -> Path | None:
    """Return the folder of a data set below `data_dir`, or None where there is none."""
    if data_dir is None or not (data_dir / name).is_dir():
        return None
    folder = data_dir / name
    if movielens.detect(folder) is None:
        known = ", ".join(f"{one.log} + {one.items}" for one in movielens.LAYOUTS)
        raise DataError(f"a folder of {name} must hold one of {known}, {folder} holds none")
    return folder


def obtain(
    name: str, data_dir: Path | None, progress: Callable[[str], None] = lambda line: None
) -> Path:
    """Return the folder of a data set: in `data_dir`, else in `./data`, else fetched there."""
    folder = data_dir if data_dir is not None else DEFAULT_FOLDER
    return (
        locate(name, folder)
        or locate(name, DEFAULT_FOLDER)
        or fetch.fetch(name, folder, progress=progress)
    )
