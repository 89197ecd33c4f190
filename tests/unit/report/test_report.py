import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from metarec_ray.errors import DataError, MachineError
from metarec_ray.report.write import write_report

KS = (0, 1, 3, 5, 10)
SCORES = {
    "random": ("floor", (0.011, 0.011, 0.011, 0.011, 0.011)),
    "popularity": ("rival", (0.081, 0.080, 0.078, 0.077, 0.075)),
    "recency_popularity": ("rival", (0.084, 0.083, 0.081, 0.080, 0.079)),
    "item_knn": ("rival", (0.011, 0.060, 0.098, 0.121, 0.149)),
    "ease": ("rival", (0.011, 0.071, 0.104, 0.126, 0.152)),
    "user_item_bias": ("rival", (0.079, 0.079, 0.080, 0.081, 0.081)),
    "windowed_ridge": ("learner", (0.080, 0.098, 0.131, 0.153, 0.180)),
    "bayesian_head": ("learner", (0.083, 0.108, 0.145, 0.171, 0.205)),
}
P_CORRECTED = {0: 0.61, 1: 0.0004, 3: 0.0004, 5: 0.0004, 10: 0.0004}
OPTIMUM = {0: 0.100, 1: 0.127, 3: 0.165, 5: 0.190, 10: 0.230}


def row(method: str, k: int, **changes: object) -> dict[str, object]:
    kind, scores = SCORES[method]
    value = scores[KS.index(k)]
    rivals = {name: of[KS.index(k)] for name, (kind, of) in SCORES.items() if kind == "rival"}
    best = max(rivals, key=lambda name: rivals[name])
    learner = kind == "learner"
    p = P_CORRECTED[k] if learner else None
    return {
        "protocol": "strict",
        "dataset": "synthetic",
        "feedback": "implicit",
        "seed": 0,
        "method": method,
        "kind": kind,
        "k": k,
        "n": 1280,
        "ndcg@10": value,
        "hr@10": 3 * value,
        "recall@10": value / 2,
        "recall@50": 2 * value,
        "coverage@10": 0.61,
        "novelty": 6.25,
        "ci95": [value - 0.006, value + 0.006],
        "p_vs_best_rival": None if method == best else 0.0002,
        "p_corrected": p,
        "best_rival": best,
        "better": learner and value > rivals[best] and P_CORRECTED[k] < 0.05,
        "chance": kind == "rival" and value < 0.02,
        "adaptation_gain": value - scores[0],
        "adapt_ms": 0.031,
        "seconds": 1.7,
        **changes,
    }


def rows() -> list[dict[str, object]]:
    return [row(method, k) for method in SCORES for k in KS]


def film(i: int) -> dict[str, object]:
    names = (
        "Alien",
        "Brazil",
        "Casablanca",
        "Dune",
        "Eraserhead",
        "Fargo: the Long Version",
        "Gilda",
    )
    return {"id": f"m{i}", "title": f"{names[i % 7]} ({1950 + i})", "score": 1 - i / 100}


def steps() -> list[dict[str, object]]:
    lists = ((0, 1, 2, 3, 4, 5), (1, 7, 0, 5, 8, 2), (7, 9, 1, 10, 5, 0), (9, 11, 7, 12, 10, 5))
    clicked = (None, film(6), film(13), film(20))
    return [
        {"clicked": click, "items": [film(i) for i in shown], "took_ms": 2.4}
        for click, shown in zip(clicked, lists, strict=True)
    ]


def sweep() -> dict[str, object]:
    trials = [
        {
            "values": {"algorithm.inner_lr": 10 ** (-3 + i / 4), "train.outer_lr": 0.003 * (1 + i)},
            "step": 200 if i % 3 else 50,
            "query_ndcg@10": None if i == 7 else 0.14 + 0.01 * i - 0.001 * i * i,
        }
        for i in range(12)
    ]
    return {"metric": "query_ndcg@10", "mode": "max", "trials": trials}


def summary() -> dict[str, object]:
    return {
        "dataset": "synthetic",
        "feedback": "implicit",
        "learner": "bayesian_head",
        "seed": 0,
        "data": {
            "rows_in": 179_200,
            "kept": 176_000,
            "filtered": 2_000,
            "collapsed": 1_100,
            "quarantined": {"label is NaN": 60, "time is missing": 40},
            "tasks": 6_400,
            "events": 176_000,
            "items": 1_000,
            "parts": {"train": 4_608, "valid": 512, "test": 1_280},
            "cutoff": 86_400_000_000,
        },
        "rows": rows(),
        "optimum": {str(k): value for k, value in OPTIMUM.items()},
        "stages": {"prepare": 9.4, "tune": 61.0, "train": 83.5, "evaluate": 22.1, "serve": 12.8},
        "sweep": sweep(),
        "example": {
            "user": "u6213",
            "fields": {"age": "25-34", "country": "NL"},
            "steps": steps(),
            "liked_later": [film(9), film(11), film(40)],
        },
        "checkpoint": "checkpoints/step-600",
        "parameters_sha256": "ab" * 32,
        "commands": [
            "metarec prepare runs/quickstart/config.yaml",
            "metarec train runs/quickstart/best.yaml --set train.num_workers=2",
            "metarec evaluate runs/quickstart/checkpoints/latest --protocol strict --json",
        ],
        "versions": {"python": "3.11.2", "ray": "2.60.0", "torch": "2.13.0"},
        "seconds": 189.2,
        "created_at": "2026-01-02T03:04:05+00:00",
    }


def metrics() -> str:
    lines = [
        {
            "step": step,
            "steps": 600,
            "query_loss": 6.9 - 1.2 * (1 - 0.99**step),
            "query_ndcg@10": 0.05 + 0.12 * (1 - 0.99**step),
            "tasks_per_s": 1150.0 + step % 70,
            "outer_lr": 0.01,
        }
        for step in range(10, 601, 10)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def write_run(folder: Path, found: dict[str, object]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(found))
    (folder / "metrics.jsonl").write_text(metrics())
    return folder


def report(folder: Path, **changes: object) -> str:
    return write_report(write_run(folder, {**summary(), **changes})).read_text("utf-8")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a run that holds everything."""
    return report(tmp_path_factory.mktemp("full"))


def only_rows(folder: Path, found: list[dict[str, object]]) -> str:
    (folder / "evaluation.json").write_text(json.dumps({"rows": found}))
    return write_report(folder).read_text("utf-8")


def words(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page))


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


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


def test_the_verdict_says_where_the_learner_is_better_and_where_it_is_not(full: str) -> None:
    assert (
        "On 1,280 new users of synthetic, bayesian_head is better than the best rival at k = 1, 3, "
        "5 and 10 (corrected p &lt; .05) and not distinguishable from it at k = 0." in words(full)
    )


def test_a_learner_above_the_rival_without_a_small_p_is_not_called_better(tmp_path: Path) -> None:
    found = [row(method, k) for method in ("ease", "popularity") for k in (3,)]
    found.append(row("bayesian_head", 3, p_corrected=0.07, better=False))
    assert "is not distinguishable from the best rival at k = 3." in words(
        only_rows(tmp_path, found)
    )


def test_a_learner_that_is_worse_is_said_to_be_worse(tmp_path: Path) -> None:
    found = [row("ease", 10), row("popularity", 10)]
    low = {"ndcg@10": 0.02, "ci95": [0.01, 0.03], "better": False, "p_corrected": 0.001}
    found.append(row("bayesian_head", 10, **low, chance=True))
    assert (
        "is worse than the best rival at k = 10 (corrected p &lt; .05) and indistinguishable from "
        "chance at k = 10." in words(only_rows(tmp_path, found))
    )


def test_a_table_without_a_rival_makes_no_claim(tmp_path: Path) -> None:
    alone = row("bayesian_head", 5, best_rival=None, p_corrected=None, better=False)
    page = words(only_rows(tmp_path, [alone]))
    assert "bayesian_head is without a rival to compare with at k = 5." in page
    assert "better" not in page.split("How good the first")[0].split("print-color-adjust")[-1]


def test_a_table_of_rivals_has_curves_and_no_verdict(tmp_path: Path) -> None:
    found = [row(method, k) for method in ("random", "ease") for k in KS]
    assert headings(only_rows(tmp_path, found)) == [
        "How good the first recommendations are",
        "Every row of the table",
    ]


def test_the_verdict_table_holds_the_difference_to_the_best_rival(full: str) -> None:
    line = next(part for part in full.split("<tr>") if ">k = 10<" in part)
    # 0.205 against EASE's 0.152
    assert re.findall(r"<td>([^<]*)</td>", line)[:5] == [
        "0.2050",
        "ease",
        "0.1520",
        f"{0.205 - 0.152:+.4f}",
        "&lt; .001",
    ]


def test_regret_is_the_optimum_minus_the_learner(full: str) -> None:
    line = [part for part in full.split("<tr>") if ">k = 10<" in part][1]
    closed = (0.205 - 0.075) / (0.230 - 0.075)
    assert re.findall(r"<td>([^<]*)</td>", line)[:4] == [
        "0.2300",
        "0.2050",
        f"{0.230 - 0.205:+.4f}",
        f"{closed:.0%}",
    ]


def test_every_row_of_the_table_is_there(full: str) -> None:
    table = full.split("Every row of the table")[1].split("</table>")[0]
    assert table.count("<tr>") == 1 + len(SCORES) * len(KS)


def test_an_optimum_among_the_rows_is_drawn_once(tmp_path: Path) -> None:
    optimum = [
        {**row("random", k), "method": "optimum", "kind": "optimum", "ndcg@10": value}
        for k, value in OPTIMUM.items()
    ]
    page = report(tmp_path, rows=[*rows(), *optimum])
    wide = page.split('<div class="chart wide">')[1].split("</svg>")[0]
    assert wide.count(">optimum</text>") == 1


def test_rows_without_a_k_are_in_the_table_only(tmp_path: Path) -> None:
    melu = {
        "protocol": "melu",
        "method": "user_mean",
        "kind": "rival",
        "scenario": "user_cold",
        "rmse": 0.97,
    }
    page = only_rows(tmp_path, [melu])
    assert headings(page) == ["Every row of the table"]
    assert "0.9700" in page


def test_the_data_section_counts_every_row_of_the_log(full: str) -> None:
    page = words(full.split("<h2>Data</h2>")[1].split("</section>")[0].replace("<", " <"))
    assert "kept 176,000 98.21%" in page  # 176,000 / 179,200
    assert "quarantined: label is NaN 60 0.03%" in page
    assert "of these test 1,280" in page
    assert "1970-01-02 00:00:00" in page  # 86,400 s after the epoch


def test_a_list_marks_what_moved_up_what_is_new_and_what_was_chosen_later(full: str) -> None:
    second = full.split('<div class="step">')[2]
    items = re.findall(r"<li.*?</li>", second)
    # before: 0 1 2 3 4 5; after the first click: 1 7 0 5 8 2
    assert [words(item).split(") ")[1] for item in items] == ["▲1", "new", "", "▲2", "new", ""]
    third = re.findall(r"<li.*?</li>", full.split('<div class="step">')[3])
    assert '<span class="star">★</span>' in third[1]
    assert "1 of 6 chosen later" in full


def test_the_best_trial_of_the_sweep_comes_first(full: str) -> None:
    section = full.split("<h2>Sweep</h2>")[1].split("</section>")[0]
    # 0.14 + 0.01 i - 0.001 i^2 is largest at i = 5
    first = section.split("<tbody>")[1].split("</tr>")[0]
    assert f"{0.14 + 0.05 - 0.025:.4f}" in first
    assert "12 trials" in section
    assert "1 gave no value" in section


def test_a_title_with_a_script_is_inert(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>$ink'
    example = {
        "user": evil,
        "fields": {evil: evil},
        "steps": [{"clicked": {"id": "1", "title": evil}, "items": [{"id": "2", "title": evil}]}],
        "liked_later": [{"id": "3", "title": evil}],
    }
    trials = [{"values": {evil: evil}, "step": 1, "m": 0.5}]
    page = report(
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


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    first = report(tmp_path)
    assert report(tmp_path) == first
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


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


def test_a_torn_summary_is_refused_and_the_old_report_stays(tmp_path: Path) -> None:
    report(tmp_path)
    old = (tmp_path / "report.html").read_bytes()
    (tmp_path / "summary.json").write_text('{"rows": [')
    with pytest.raises(DataError, match=r"must hold JSON, got .*summary.json"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == old


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"rows_in": "many"}}, r"data.rows_in of a run's file is wrong.*'many'"),
        ({"rows": [{"method": "ease", "k": 3, "ndcg@10": 0.1}]}, "kind of a run's file is wrong"),
        ({"sweep": {"metric": "m", "mode": "up", "trials": []}}, r"sweep.mode .*'up'"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        report(tmp_path, **changes)


def test_without_matplotlib_one_sentence_says_how_to_mend_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, summary())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MachineError, match=r"pip install 'metarec_ray\[report\]'"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
