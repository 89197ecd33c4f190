"""What is told of a sweep, from the files that Tune keeps, which are played by a few lines."""

import json
from pathlib import Path

from metarec_ray.config.experiment import parse
from metarec_ray.data.store.manifest import load
from metarec_ray.engine.tune.tracked import SweepRuns

METRIC = "valid_ndcg@10"


def trial(folder: Path, number: int, status: str, *reports: dict[str, object]) -> list[str]:
    """Write what Tune writes of a trial; return what its state file says of it."""
    logdir = f"trial_abc_0000{number}"
    (folder / logdir).mkdir(parents=True)
    lines = "".join(json.dumps(report) + "\n" for report in reports)
    (folder / logdir / "result.json").write_text(lines)
    values = {"train.outer_lr": 0.1 * number, "model.dim": 8}
    state = {"experiment_tag": f"{number}_train.outer_lr=0.1", "relative_logdir": logdir}
    return [json.dumps(state | {"status": status, "config": values}), "{}"]


def test_trials_are_runs_with_a_value_a_rung_and_the_reason_of_a_failure(
    synthetic_store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    rungs = [{"step": s, METRIC: s / 100, "timestamp": 1000 + s} for s in (5, 10)]
    diverged = {"step": 3, METRIC: float("nan"), "why": "scores are NaN"}
    state = [
        trial(folder, 0, "TERMINATED", *rungs),
        trial(folder, 1, "TERMINATED", diverged),
        trial(folder, 2, "ERROR", rungs[0]),
        trial(folder, 3, "RUNNING", rungs[0]),
        trial(folder, 4, "PENDING"),
    ]
    (folder / "trial_abc_00002" / "error.txt").write_text("Traceback\nOSError: no space left\n")
    (folder / "experiment_state-1.json").write_text(json.dumps({"trial_data": state}))
    asked = parse({"run": {"dir": str(tmp_path)}}, "the test")
    runs = SweepRuns(asked, load(synthetic_store), folder, METRIC, words=("metarec", "tune"))
    own, *trials = runs.known()
    assert (own.key, own.status, list(own.points)) == ("", "running", [])
    assert [(one.key, one.status) for one in trials] == [
        ("trial-0", "finished"),
        ("trial-1", "failed"),
        ("trial-2", "failed"),
        ("trial-3", "running"),
    ]
    assert trials[0].params == {"train.outer_lr": "0.0", "model.dim": "8"}
    assert [(p.step, p.values, p.time) for p in trials[0].points] == [
        (5, {"valid_ndcg_at_10": 0.05}, 1005),
        (10, {"valid_ndcg_at_10": 0.1}, 1010),
    ]
    assert trials[1].tags == {"metarec.why": "scores are NaN"}
    assert trials[1].points[0].values == {}
    assert trials[2].tags == {"metarec.why": "OSError: no space left"}
    runs.status = "killed"
    assert [one.status for one in runs.known()][3:] == ["failed", "killed"]


def test_trials_of_a_group_are_runs_of_their_own(synthetic_store: Path, tmp_path: Path) -> None:
    values = [{"train.outer_lr": 0.1}, {"train.outer_lr": 9.0}, {"train.outer_lr": 0.2}]
    first = [{"values": v, "step": 5, METRIC: 0.25} for v in values]
    first[1] |= {"why": "scores are NaN", METRIC: float("nan"), "ended": 1}
    second = [first[0] | {"step": 10, METRIC: 0.5, "ended": 2}, first[1], first[2] | {"step": 10}]
    reports = [
        {"step": 5 * rung, "rung": rung, "trials": json.dumps(told), "timestamp": 1000 + rung}
        for rung, told in ((1, first), (2, second))
    ]
    state = [trial(tmp_path, 0, "RUNNING", *reports)]
    (tmp_path / "experiment_state-1.json").write_text(json.dumps({"trial_data": state}))
    asked = parse({"run": {"dir": str(tmp_path)}}, "the test")
    runs = SweepRuns(asked, load(synthetic_store), tmp_path, METRIC, words=("metarec", "tune"))
    one, diverged, on_its_way = runs.known()[1:]
    assert [run.status for run in (one, diverged, on_its_way)] == ["finished", "failed", "running"]
    assert (one.key, one.params) == ("trial-0-0", {"train.outer_lr": "0.1"})
    assert [(p.step, p.values, p.time) for p in one.points] == [
        (5, {"valid_ndcg_at_10": 0.25}, 1001),
        (10, {"valid_ndcg_at_10": 0.5}, 1002),
    ]
    assert diverged.tags == {"metarec.why": "scores are NaN"}
    assert [(p.step, p.values) for p in diverged.points] == [(5, {})]


def test_the_best_trial_is_a_value_and_tags_of_the_sweep(
    synthetic_store: Path, tmp_path: Path
) -> None:
    asked = parse({"run": {"dir": str(tmp_path)}}, "the test")
    runs = SweepRuns(asked, load(synthetic_store), tmp_path, METRIC, words=("metarec", "tune"))
    best = {"values": {"train.outer_lr": 0.5}, "step": 10, METRIC: 0.25}
    runs.finish(best, tmp_path / "best.yaml")
    (own,) = runs.known()
    assert [(p.step, p.values) for p in own.points] == [(10, {"best_valid_ndcg_at_10": 0.25})]
    assert own.tags["metarec.best"] == str(tmp_path / "best.yaml")
    assert own.tags["metarec.best.train.outer_lr"] == "0.5"


def test_folds_are_told_with_their_spread_and_half_a_line_is_not(
    synthetic_store: Path, tmp_path: Path
) -> None:
    report = {"step": 5, "fold_ndcg@10": 0.25, "spread": 0.01, "folds": [0.24, 0.26]}
    state = [trial(tmp_path, 0, "RUNNING", report)]
    with (tmp_path / "trial_abc_00000" / "result.json").open("a") as file:
        file.write('{"step": 10, "fold_nd')
    (tmp_path / "experiment_state-1.json").write_text(json.dumps({"trial_data": state}))
    asked = parse({"run": {"dir": str(tmp_path)}}, "the test")
    manifest = load(synthetic_store)
    runs = SweepRuns(asked, manifest, tmp_path, "fold_ndcg@10", words=("metarec", "tune"))
    (point,) = runs.known()[1].points
    assert point.values == {"spread": 0.01, "fold_ndcg_at_10": 0.25}
