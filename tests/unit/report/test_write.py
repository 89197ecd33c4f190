import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from metarec_ray.errors import DataError, MachineError
from metarec_ray.report.write import render, write_report
from tests.unit.report.runs import headings, made_run, metrics, row, summary, sweep, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that holds everything."""
    return write_run(tmp_path_factory.mktemp("full"), summary())


@pytest.fixture(scope="module")
def full(folder: Path) -> str:
    """Its report."""
    return write_report(folder).read_text("utf-8")


class Outline(HTMLParser):
    """Checks that every element that is opened is closed, and keeps what is asked for."""

    void = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.ids: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._look(tag, attrs)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._look(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _look(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        loads = ("src", "href", "xlink:href", "srcset", "action", "data")
        self.targets += [value or "" for name, value in attrs if name in loads]


def outline(page: str) -> Outline:
    found = Outline()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


def test_a_full_run_shows_every_section(full: str) -> None:
    assert headings(full) == [
        "Verdict",
        "How good the first recommendations are",
        "Distance to the optimum",
        "One new user, click by click",
        "Learning",
        "Sweep",
        "Data",
        "Every row of the table",
        "Where the time went",
        "Do it again",
    ]


def test_a_title_with_a_script_is_inert(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>$ink'
    example = {
        "user": evil,
        "fields": {evil: evil},
        "steps": [{"clicked": {"id": "1", "title": evil}, "items": [{"id": "2", "title": evil}]}],
        "liked_later": [{"id": "3", "title": evil}],
    }
    trials = [{"values": {evil: evil}, "step": 1, "m": 0.5}]
    run = made_run(
        tmp_path,
        dataset=evil,
        learner=evil,
        example=example,
        sweep={"metric": "m", "mode": "max", "trials": trials},
        rows=[{**row("ease", 5, dataset=evil, protocol=evil), "method": evil}],
        versions={evil: evil},
        commands=[evil],
        stages={evil: 1.0},
    )
    page = render(run.model_copy(update={"metrics": []}))
    names = outline(page).names
    assert "script" not in names
    assert "img" not in names
    assert "&lt;script&gt;" in page


def test_the_page_is_whole_and_loads_nothing(full: str) -> None:
    found = outline(full)
    assert found.names.isdisjoint({"script", "link", "iframe", "object", "img", "base", "form"})
    assert all(target.startswith("#") for target in found.targets)
    assert "://" not in full
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in full
    assert len(full) < 1_000_000


def test_every_id_is_used_once_and_every_reference_has_its_id(full: str) -> None:
    found = outline(full)
    assert len(found.ids) == len(set(found.ids))
    named = {target.removeprefix("#") for target in found.targets} | set(
        re.findall(r"url\(#([^)]*)\)", full)
    )
    assert named <= set(found.ids)


def test_the_same_run_gives_the_same_bytes(folder: Path, full: str) -> None:
    assert write_report(folder).read_text("utf-8") == full
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == []


def test_a_log_of_training_alone_is_a_report(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(metrics() + '{"step": 61')
    page = write_report(tmp_path).read_text("utf-8")
    assert headings(page) == ["Learning"]
    assert outline(page).names >= {"svg", "path"}


def test_a_sweep_alone_is_a_report(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps(sweep()))
    assert headings(write_report(tmp_path).read_text("utf-8")) == ["Sweep"]


def test_a_store_alone_shows_its_counts(synthetic_store: Path, tmp_path: Path) -> None:
    (tmp_path / "store").symlink_to(synthetic_store)
    page = write_report(tmp_path).read_text("utf-8")
    assert headings(page) == ["Data"]
    assert "of these valid" in page


def test_a_folder_with_nothing_to_report_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs one of summary.json, metrics.jsonl, .* holds none"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_torn_summary_is_refused_and_the_old_report_stays(
    folder: Path, full: str, tmp_path: Path
) -> None:
    torn = shutil.copytree(folder, tmp_path / "torn")
    (torn / "summary.json").write_text('{"rows": [')
    with pytest.raises(DataError, match=r"must hold JSON, got .*summary.json"):
        write_report(torn)
    assert (torn / "report.html").read_text("utf-8") == full


def test_without_matplotlib_one_sentence_says_how_to_mend_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, summary())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MachineError, match=r"pip install 'metarec_ray\[report\]'"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
