import re
from pathlib import Path

from metarec_ray.report.example import example
from tests.unit.report.runs import made_run, words


def test_a_list_marks_what_moved_up_what_is_new_and_what_was_chosen_later(tmp_path: Path) -> None:
    shown = example(made_run(tmp_path))
    second = shown.split('<div class="step">')[2]
    items = re.findall(r"<li.*?</li>", second)
    # before: 0 1 2 3 4 5; after the first click: 1 7 0 5 8 2
    assert [words(item).split(") ")[1] for item in items] == ["▲1", "new", "", "▲2", "new", ""]
    third = re.findall(r"<li.*?</li>", shown.split('<div class="step">')[3])
    assert '<span class="star">★</span>' in third[1]
    assert "1 of 6 chosen later" in shown
