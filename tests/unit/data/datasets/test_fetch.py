"""Fetching from a server of our own on the loopback: resume, checksums, archives, no network."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from metarec_ray.data.datasets import fetch
from metarec_ray.errors import DataError, MachineError

NAME = "ml-latest-small"  # the set whose checksum the server is asked for


def archive(entries: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name, text in entries.items():
            opened.writestr(name, text)
    return stream.getvalue()


WHOLE = archive({f"{NAME}/ratings.csv": "userId,movieId,rating,timestamp\n" + "1,2,3,4\n" * 500})


class Site:
    """What the server holds, what it was asked, and whether it hangs up half-way."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.cut: int | None = None
        self.honours_ranges = True
        self.address = ""

    def hold(self, content: bytes, md5: str | None = None) -> None:
        found = md5 if md5 is not None else hashlib.md5(content).hexdigest()
        self.files = {
            f"/{NAME}.zip": content,
            f"/{NAME}.zip.md5": f"MD5 ({NAME}.zip) = {found}\n".encode(),
        }


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = found.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            wanted = self.headers.get("Range")
            if self.path.endswith(".zip"):
                found.ranges.append(wanted)
            first = int(wanted[len("bytes=") : -1]) if wanted and found.honours_ranges else 0
            if first >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if first else 200)
            if first:
                self.send_header(
                    "Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}"
                )
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            end = found.cut if self.path.endswith(".zip") else None
            self.wfile.write(content[first:end])

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    found.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield found
    server.shutdown()
    thread.join(timeout=5)
    server.server_close()


def get(site: Site, folder: Path) -> tuple[Path, list[str]]:
    said: list[str] = []
    return fetch.fetch(NAME, folder, progress=said.append, address=site.address), said


def test_a_set_is_fetched_verified_and_unpacked(site: Site, tmp_path: Path) -> None:
    site.hold(WHOLE)
    folder, said = get(site, tmp_path)
    assert (folder / "ratings.csv").read_text().startswith("userId,")
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert said[0].startswith(f"fetching {site.address}/{NAME}.zip")


def test_a_set_that_is_there_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    folder, said = get(site, tmp_path)
    assert folder == tmp_path / NAME
    assert said == [f"{NAME} is already in {folder}"]
    assert site.ranges == []


def test_an_interrupted_fetch_is_resumed_where_it_ended(site: Site, tmp_path: Path) -> None:
    site.hold(WHOLE)
    site.cut = 100
    with pytest.raises(MachineError, match=r"the connection ended after 100 of .*: try again"):
        get(site, tmp_path)
    assert (tmp_path / f"{NAME}.zip.part").stat().st_size == 100
    site.cut = None
    _, said = get(site, tmp_path)
    assert site.ranges == [None, "bytes=100-"]
    assert said[0].startswith("resuming")


def test_a_server_that_cannot_resume_is_asked_for_the_whole(site: Site, tmp_path: Path) -> None:
    site.hold(WHOLE)
    site.honours_ranges = False
    (tmp_path / f"{NAME}.zip.part").write_bytes(b"x" * 50)
    folder, said = get(site, tmp_path)
    assert (folder / "ratings.csv").is_file()
    assert said[0].startswith("fetching")


def test_a_part_that_is_whole_already_is_used(site: Site, tmp_path: Path) -> None:
    site.hold(WHOLE)
    (tmp_path / f"{NAME}.zip.part").write_bytes(WHOLE)
    folder, _ = get(site, tmp_path)
    assert (folder / "ratings.csv").is_file()


def test_a_wrong_checksum_deletes_the_file(site: Site, tmp_path: Path) -> None:
    site.hold(WHOLE, md5="0" * 32)
    with pytest.raises(DataError, match=r"the MD5 of http://.*zip must be 0{32}, got [0-9a-f]{32}"):
        get(site, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pinned_checksum_is_not_asked_for(site: Site, tmp_path: Path) -> None:
    site.files["/ml-1m.zip"] = WHOLE
    with pytest.raises(DataError, match="must be c4d9eecfca2ab87c1945afe126590906, got"):
        fetch.fetch("ml-1m", tmp_path, progress=lambda line: None, address=site.address)


@pytest.mark.parametrize("name", [f"{NAME}/../../evil.csv", "/evil.csv", "a\\..\\evil.csv"])
def test_an_archive_that_leaves_its_folder_is_refused(
    site: Site, tmp_path: Path, name: str
) -> None:
    site.hold(archive({f"{NAME}/a.csv": "", name: ""}))
    with pytest.raises(DataError, match="an archive must stay in its folder, got"):
        get(site, tmp_path / "inside")
    assert not (tmp_path / "evil.csv").exists()
    assert not (tmp_path / "inside" / NAME).exists()


def test_an_archive_of_something_else_is_refused(site: Site, tmp_path: Path) -> None:
    site.hold(archive({"other/a.csv": ""}))
    with pytest.raises(DataError, match=f"an archive must hold a folder {NAME}"):
        get(site, tmp_path)
    site.hold(b"this is no archive")
    (tmp_path / f"{NAME}.zip.part").unlink()
    with pytest.raises(DataError, match="an archive must be a whole ZIP file"):
        get(site, tmp_path)


def test_without_a_network_the_address_and_the_way_out_are_named(tmp_path: Path) -> None:
    closed = "http://127.0.0.1:9"
    with pytest.raises(MachineError, match=rf"fetched from {closed}/ml-1m.zip.* set METAREC_DATA"):
        fetch.fetch("ml-1m", tmp_path, progress=lambda line: None, address=closed)


def test_an_address_without_the_archive_is_named(site: Site, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"ml-latest-small.zip must answer .*, got status 404"):
        get(site, tmp_path)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be one of ml-1m, ml-100k, ml-latest-small, got 'ml'"):
        fetch.fetch("ml", tmp_path, progress=lambda line: None)
