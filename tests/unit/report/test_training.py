from pathlib import Path

from metarec_ray.report import training
from tests.unit.report.runs import made_run


def test_the_best_trial_of_the_sweep_comes_first(tmp_path: Path) -> None:
    section = training.sweep(made_run(tmp_path))
    # 0.14 + 0.01 i - 0.001 i^2 is largest at i = 5
    first = section.split("<tbody>")[1].split("</tr>")[0]
    assert f"{0.14 + 0.05 - 0.025:.4f}" in first
    assert "12 trials" in section
    assert "1 gave no value" in section
