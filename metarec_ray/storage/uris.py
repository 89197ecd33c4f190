"""Where a folder in an object store is worked on: one place a URI on each machine.

Knows names and the environment; does not ask the store.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from metarec_ray.data.files import paths
from metarec_ray.data.files.paths import is_remote

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
"""Object stores that a run or a task store can lie in."""
_COPIES = "copies"


def copies(environ: Mapping[str, str]) -> Path:
    """Return the folder of working copies: in `METAREC_CACHE`, else `METAREC_HOME`."""
    for name in ("METAREC_CACHE", "METAREC_HOME"):
        if environ.get(name):
            return Path(environ[name]).expanduser().resolve() / _COPIES
    return Path("~/.metarec").expanduser() / _COPIES


def place(uri: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder in which this machine works on a folder in an object store.

    >>> place("s3://bucket/runs/a/?region=eu", {"METAREC_CACHE": "/cache"}).as_posix()
    '/cache/copies/a-de961c6972ce'
    """
    plain = paths.identity(uri)
    digest = hashlib.sha256(plain.encode()).hexdigest()[:12]
    return copies(environ) / f"{plain.rpartition('/')[2]}-{digest}"


def local(path: str) -> Path:
    """Return a local path as it is, and the working copy's of a URI."""
    return place(path) if is_remote(path) else Path(path)


def inside(folder: str, name: str) -> str:
    """Return the path or URI of a name in a folder.

    >>> inside("runs/a", "store"), inside("s3://bucket/a?region=eu", "store")
    ('runs/a/store', 's3://bucket/a/store?region=eu')
    """
    return paths.inside(folder, name) if is_remote(folder) else str(Path(folder) / name)
