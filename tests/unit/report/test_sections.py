from pathlib import Path

from metarec_ray.report import sections
from tests.unit.report.runs import made_run, words


def test_the_data_section_counts_every_row_of_the_log(tmp_path: Path) -> None:
    page = words(sections.data(made_run(tmp_path)).replace("<", " <"))
    assert "kept 176,000 98.21%" in page  # 176,000 / 179,200
    assert "quarantined: label is NaN 60 0.03%" in page
    assert "of these test 1,280" in page
    assert "1970-01-02 00:00:00" in page  # 86,400 s after the epoch


def test_what_is_doubtful_of_the_log_is_told(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    assert run.data is not None
    doubtful = run.data.model_copy(update={"notes": ("few ids join <here>",)})
    assert "few ids join &lt;here&gt;" in sections.data(run.model_copy(update={"data": doubtful}))
