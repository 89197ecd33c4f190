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


def test_a_trial_without_a_value_stands_with_its_reason(tmp_path: Path) -> None:
    trials = [
        {"values": {"model.dim": 8}, "step": 5, "m": 0.5},
        {"values": {"model.dim": 16}, "step": 2, "m": None, "why": "OSError: <no space>"},
    ]
    run = made_run(tmp_path, sweep={"metric": "m", "mode": "max", "trials": trials})
    lost = training.sweep(run).split("Without a value:")[1]
    assert "OSError: &lt;no space&gt;" in lost
    assert ">16<" in lost
    assert "Without a value" not in training.sweep(made_run(tmp_path))


def test_trials_of_folds_stand_with_their_spread(tmp_path: Path) -> None:
    trials = [
        {"values": {"model.dim": 8}, "step": 5, "m": 0.5, "spread": 0.0125, "folds": [0.49, 0.51]}
    ]
    run = made_run(tmp_path, sweep={"metric": "m", "mode": "max", "trials": trials})
    section = training.sweep(run)
    assert "0.5000 ± 0.0125" in section
    assert "standard deviation over folds" in section
    assert "standard deviation" not in training.sweep(made_run(tmp_path))


def test_both_rates_of_a_sweep_are_drawn_against_each_other(tmp_path: Path) -> None:
    drawn = training.sweep(made_run(tmp_path))
    assert 'aria-label="Trials by inner and outer rate"' in drawn
    assert 'aria-label="Trials by all keys"' in drawn
    one = [{"values": {"train.outer_lr": 0.1}, "step": 5, "m": 0.5}]
    alone = training.sweep(made_run(tmp_path, sweep={"metric": "m", "mode": "max", "trials": one}))
    assert "Trials by" not in alone
