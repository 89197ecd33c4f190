"""The file systems that Arrow opens by URI, and how long to wait for one.

Knows schemes and options; does not know files (`paths`).
"""

from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from metarec_ray.errors import DataError

SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss")
_GOOGLE = ("gs", "gcs")
GCS_LIMIT = "retry_limit_seconds"
GCS_SECONDS = 20  # by default Google's client retries for 15 minutes


def at(uri: str, options: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI, and the path inside it.

    `options` are those of the URI, with their `?`; empty for none.

    Raises:
        DataError: an unknown scheme or option, no bucket, or no answer.

    """
    scheme, _, place = uri.partition("://")
    if scheme not in SCHEMES:
        raise DataError(
            f"data.path must be a local path or a URI of {', '.join(SCHEMES)}, got {uri!r}"
        )
    if scheme != "file" and not place.strip("/"):
        raise DataError(f"a URI must name a bucket, got {uri!r}")
    asked = options
    if scheme in _GOOGLE and GCS_LIMIT not in options:
        asked = f"{options}{'&' if options else '?'}{GCS_LIMIT}={GCS_SECONDS}"
    try:
        if scheme == "s3" or scheme in _GOOGLE:
            bucket, slash, name = place.partition("/")
            inside = f"{bucket.rpartition('@')[2]}{slash}{unquote(name)}"
            return _connected(f"{scheme}://{bucket}{asked}"), inside
        return fs.FileSystem.from_uri(uri + asked)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"a file system must answer, {uri}{options} does not: {reason(error)}"
        ) from error


@lru_cache(maxsize=16)
def _connected(uri: str) -> fs.FileSystem:
    """Return the file system of a bucket, cached: its files share one client and connection."""
    return fs.FileSystem.from_uri(uri)[0]


def tag(metadata: Mapping[str, bytes]) -> str:
    """Return the entity tag of a file's content in an object store, empty if it has none.

    >>> tag({"ETag": b"amazon's"}), tag({"etag": b"google's"}), tag({})
    ("amazon's", "google's", '')
    """
    return {name.lower(): value for name, value in metadata.items()}.get("etag", b"").decode()


def reason(error: Exception) -> str:
    """Return the message of an error as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
