"""Where experiments are tracked: what a tracking URI of MLflow may be.

Knows its form; does not know who answers there.
"""

import os
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

SERVERS = ("http", "https")
_PREFIXES = {"sqlite": "sqlite:///", "file": "file:///"}
_SCHEMES = (*SERVERS, *_PREFIXES)
_NAMES = ("databricks", "databricks-uc", "uc")
"""What MLflow takes for a server, not for a folder."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
_PATH = re.compile(r"(sqlite:///|file://)?(.*)", re.DOTALL)


def _tracking(uri: str) -> str:
    found = _SCHEME.match(uri)
    if found is None and uri not in _NAMES:
        return os.path.expanduser(uri)
    if uri.startswith(tuple(_PREFIXES.values())) and uri not in _PREFIXES.values():
        return uri
    # First, because what is refused for another reason is shown.
    if re.search(r"[@?#]", uri):
        raise ValueError(
            "a tracking URI must hold neither user nor password nor options, which belong in the "
            "environment (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN)"
        )
    scheme = found[1].lower() if found else uri
    if scheme not in _SCHEMES:
        raise ValueError(
            f"a tracking URI is a folder, or begins with one of {', '.join(_SCHEMES)}, got {uri!r}"
        )
    if scheme in _PREFIXES:
        raise ValueError(f"a tracking URI of {scheme} is {_PREFIXES[scheme]}PATH, got {uri!r}")
    if not urlsplit(uri).hostname:
        raise ValueError(f"a tracking server must have a host, got {uri!r}")
    return uri


TrackingUri = Annotated[str, Field(min_length=1), AfterValidator(_tracking)]
"""A folder, `sqlite:///FILE`, or a server's address, in which no secret is."""


def is_server(uri: str) -> bool:
    """Return whether a tracking URI is that of a server, not of files of this machine."""
    return uri.lower().startswith(tuple(f"{scheme}://" for scheme in SERVERS))


def absolute(uri: str, folder: str) -> str:
    """Return a tracking URI whose path begins at the root; that of a server as it is.

    >>> absolute("sqlite:///runs.db", "/work"), absolute("mlruns", "/work")
    ('sqlite:////work/runs.db', '/work/mlruns')
    >>> absolute("http://tracking:5000", "/work")
    'http://tracking:5000'
    """
    found = _PATH.fullmatch(uri)
    if is_server(uri) or found is None:
        return uri
    return f"{found[1] or ''}{os.path.normpath(os.path.join(folder, found[2]))}"
