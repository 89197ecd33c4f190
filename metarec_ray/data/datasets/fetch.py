"""Fetch a MovieLens archive from GroupLens: resume, verify the checksum, unpack.

Knows addresses and archives; does not know what the files in them mean.
"""

import hashlib
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from metarec_ray.errors import DataError, MachineError

ADDRESS = "https://files.grouplens.org/datasets/movielens"
BLOCK = 1 << 18
TIMEOUT_S = 30.0
MAX_BYTES = 1 << 30


class Set(NamedTuple):
    """A data set: the MD5 of its archive, None to take the one that GroupLens publishes."""

    md5: str | None


SETS = {
    "ml-1m": Set("c4d9eecfca2ab87c1945afe126590906"),
    "ml-100k": Set("0e33842e24a9c977be4e0107933c0723"),
    "ml-latest-small": Set(None),  # GroupLens updates it from time to time
}


def fetch(
    name: str, destination: Path, *, progress: Callable[[str], None], address: str = ADDRESS
) -> Path:
    """Return the folder `destination/<name>` of a data set; fetch it if there is none.

    An interrupted download is resumed.

    Raises:
        MachineError: no network, or the server fails.
        DataError: an unknown name, or a wrong checksum; what was downloaded is then deleted.

    """
    if name not in SETS:
        raise DataError(f"a data set must be one of {', '.join(SETS)}, got {name!r}")
    folder = destination / name
    if folder.is_dir():
        progress(f"{name} is already in {folder}")
        return folder
    part = destination / f"{name}.zip.part"
    url = f"{address}/{name}.zip"
    try:
        destination.mkdir(parents=True, exist_ok=True)
        expected = _checksum(url, SETS[name].md5)
        _download(url, part, progress)
    except urllib.error.HTTPError as error:
        raise MachineError(
            f"{url} must answer with the archive, got status {error.code}"
        ) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise MachineError(
            f"{name} must be fetched from {url}, which failed ({reason}): try again, or unpack it "
            f"to a folder {name} and set METAREC_DATA to the folder above"
        ) from error
    _verify(part, expected, url)
    _unpack(part, folder, name)
    part.unlink()
    progress(f"{name} is in {folder}")
    return folder


def _checksum(url: str, pinned: str | None) -> str:
    """Return the MD5 that the archive must have, pinned or published."""
    if pinned is not None:
        return pinned
    with urllib.request.urlopen(f"{url}.md5", timeout=TIMEOUT_S) as answer:
        text = answer.read(4096).decode("ascii", errors="replace")
    words = [word.lower() for word in text.split() if len(word) == 32]
    found = [word for word in words if all(c in "0123456789abcdef" for c in word)]
    if len(found) != 1:
        raise MachineError(f"{url}.md5 must hold one MD5 checksum, got {text[:60]!r}")
    return found[0]


def _download(url: str, part: Path, progress: Callable[[str], None]) -> None:
    """Download the rest of the archive; all of it if the server cannot resume."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:
            raise
        return  # nothing is missing; if it is too long, the checksum fails
    with answer:
        resumed = answer.status == 206 and _starts_at(answer.headers.get("Content-Range"), have)
        have = have if resumed else 0
        size = have + int(answer.headers.get("Content-Length") or 0)
        progress(f"{'resuming' if have else 'fetching'} {url} ({size / 1e6:.1f} MB)")
        with part.open("ab" if resumed else "wb") as stream:
            while block := answer.read(BLOCK):
                have += len(block)
                if have > MAX_BYTES:
                    raise MachineError(f"an archive must be < {MAX_BYTES} bytes, {url} is larger")
                stream.write(block)
    if have < size:
        raise ConnectionError(f"the connection ended after {have} of {size} bytes")


def _starts_at(content_range: str | None, first: int) -> bool:
    return content_range is not None and content_range.startswith(f"bytes {first}-")


def _verify(part: Path, expected: str, url: str) -> None:
    with part.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != expected:
        part.unlink()
        raise DataError(f"the MD5 of {url} must be {expected}, got {found}: the file was deleted")


def _unpack(archive: Path, folder: Path, name: str) -> None:
    """Unpack the folder `name` of the archive; `folder` appears when all of it is there."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        with zipfile.ZipFile(archive) as opened:
            _refuse_unsafe(opened, archive)
            opened.extractall(scratch)
        if not (scratch / name).is_dir():
            raise DataError(f"an archive must hold a folder {name}, {archive} holds none")
        (scratch / name).rename(folder)
    except zipfile.BadZipFile as error:
        raise DataError(
            f"an archive must be a whole ZIP file, {archive} is not: {error}"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _refuse_unsafe(opened: zipfile.ZipFile, archive: Path) -> None:
    for entry in opened.infolist():
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.filename:
            raise DataError(
                f"an archive must stay in its folder, got {entry.filename!r} ({archive})"
            )
    if sum(entry.file_size for entry in opened.infolist()) > MAX_BYTES:
        raise DataError(f"an archive must unpack to < {MAX_BYTES} bytes ({archive})")
