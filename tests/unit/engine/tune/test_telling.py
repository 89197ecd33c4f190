"""How trials of a sweep are told, and the rows of its table; Tune is played by a few lines."""

import pickle
from types import SimpleNamespace

import pytest

from metarec_ray.engine.tune.telling import TrialProgress, listen, row


def test_a_resumed_sweep_tells_its_trials_to_who_resumes_it() -> None:
    said: list[str] = []
    listen(said.append)
    told = pickle.loads(pickle.dumps(TrialProgress(print, "valid_ndcg@10", 3)))
    trial = SimpleNamespace(config={"train.outer_lr": 0.1}, last_result={"step": 5})
    told.on_trial_complete(1, [], trial)
    assert said == ["tune: trial 1/3  valid_ndcg@10 no result  after step 5  train.outer_lr 0.1"]
    listen(lambda line: None)


@pytest.mark.parametrize("found", [float("nan"), float("inf"), None])
def test_a_trial_that_diverged_has_no_result_to_be_the_best_by(found: float | None) -> None:
    metrics = {"step": 5, "loss": found}
    result = SimpleNamespace(config={"train.outer_lr": 9.0}, metrics=metrics, error=None)
    assert row(result, "loss") == {"values": result.config, "step": 5, "loss": None}
    # What it reached before it broke is not where it ended.
    error = RuntimeError("Traceback ...\n  File x\nOSError: no space left\n")
    broken = SimpleNamespace(config={}, metrics={"step": 5, "loss": 0.1}, error=error)
    lost = {"values": {}, "step": 5, "loss": None, "why": "OSError: no space left"}
    assert row(broken, "loss") == lost
    said = SimpleNamespace(config={}, metrics=metrics | {"why": "scores are NaN"}, error=None)
    assert row(said, "loss")["why"] == "scores are NaN"


def test_a_trial_without_a_result_says_why() -> None:
    said: list[str] = []
    last = {"step": 5, "valid_ndcg@10": float("nan"), "why": "scores are NaN"}
    trial = SimpleNamespace(config={"train.outer_lr": 9.0}, last_result=last)
    TrialProgress(said.append, "valid_ndcg@10", 3).on_trial_complete(1, [], trial)
    assert said[0].endswith(
        "valid_ndcg@10 no result  after step 5  train.outer_lr 9  (scores are NaN)"
    )


def test_a_trial_that_fails_is_told_with_its_reason_and_counted_once() -> None:
    said: list[str] = []
    told = TrialProgress(said.append, "valid_ndcg@10", 3)
    trial = SimpleNamespace(
        config={"model.dim": 8},
        last_result={"step": 5, "valid_ndcg@10": 0.25},
        get_error=lambda: "Traceback\nray.exceptions.OutOfMemoryError: killed\n",
    )
    told.on_trial_recover(1, [], trial)
    told.on_trial_error(1, [], trial)
    trial.get_error = lambda: None
    told.on_trial_error(1, [], trial)
    why = "(ray.exceptions.OutOfMemoryError: killed)"
    end = "valid_ndcg@10 no result  after step 5  model.dim 8"
    assert said == [
        f"tune: a trial failed and goes on from its last rung  model.dim 8  {why}",
        f"tune: trial 1/3  {end}  {why}",
        f"tune: trial 2/3  {end}  (its process ended)",
    ]


def test_a_trial_of_folds_is_told_with_their_spread() -> None:
    said: list[str] = []
    last = {"step": 5, "fold_ndcg@10": 0.25, "spread": 0.0125, "folds": [0.24, 0.26]}
    trial = SimpleNamespace(config={"model.dim": 8}, last_result=last)
    TrialProgress(said.append, "fold_ndcg@10", 3).on_trial_complete(1, [], trial)
    assert "fold_ndcg@10 0.2500 +- 0.0125  after step 5" in said[0]
    result = SimpleNamespace(config={}, metrics=last, error=None)
    assert row(result, "fold_ndcg@10") == {"values": {}} | last
    broken = SimpleNamespace(config={}, metrics=last, error=RuntimeError("no space left"))
    assert "spread" not in row(broken, "fold_ndcg@10")
