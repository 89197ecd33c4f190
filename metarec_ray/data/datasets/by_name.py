"""Find the folder of a data set by its name; fetch it if it is not there.

Knows names and folders; does not know addresses (`fetch`).
"""

from collections.abc import Callable
from pathlib import Path

from metarec_ray.data.datasets import amazon, fetch, layouts
from metarec_ray.errors import DataError

NAMES = (*fetch.SETS, amazon.NAME)
DEFAULT_FOLDER = Path("data")


def locate(name: str, data_dir: Path | None) -> Path | None:
    """Return the folder of a data set below `data_dir`, or None if there is none.

    Raises:
        DataError: the folder does not have the files of a known layout.

    """
    if data_dir is None or not (data_dir / name).is_dir():
        return None
    folder = data_dir / name
    if layouts.detect(folder) is None:
        known = ", ".join(f"{one.log} + {one.items}" for one in layouts.LAYOUTS)
        raise DataError(f"a folder of {name} must hold one of {known}, {folder} holds none")
    return folder


def obtain(
    name: str, data_dir: Path | None, progress: Callable[[str], None] = lambda line: None
) -> Path:
    """Return the folder of a data set, in `data_dir` or `./data`; fetch it to `data_dir` if needed.

    Raises:
        DataError: it is not there and cannot be fetched.

    """
    folder = data_dir if data_dir is not None else DEFAULT_FOLDER
    found = locate(name, folder) or locate(name, DEFAULT_FOLDER)
    if found is None and name not in fetch.SETS:
        raise DataError(
            f"{name} cannot be fetched, it must lie in the data folder {folder} (METAREC_DATA): "
            f"missing {name}/{amazon.LAYOUT.log}, {name}/{amazon.LAYOUT.items}"
        )
    return found or fetch.fetch(name, folder, progress=progress)
