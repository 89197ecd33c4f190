"""A search that learns from its trials: what it tries, and that it goes on as it was."""

import math
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from metarec_ray.config.sweeping import Sweep
from metarec_ray.engine.tune import search
from metarec_ray.errors import MachineError
from metarec_ray.evaluation.validation import Objective

LEAST = Objective("m", "min")
SPACE = {"train.outer_lr": tune.loguniform(0.001, 1.0), "model.dim": tune.choice([8, 16])}


def parzen(trials: int = 30, *, beside: int = 1, seed: int = 0) -> Any:
    pytest.importorskip("optuna", reason="the extra optuna is not installed")
    from metarec_ray.engine.tune.parzen import ParzenSearch

    found = ParzenSearch(LEAST, trials=trials, beside=beside, seed=seed)
    found.set_search_properties("m", "min", SPACE)
    return found


def distance(values: dict[str, Any]) -> float:
    """Return how far values are from a rate of 0.1 and 16 dimensions."""
    return abs(math.log10(values["train.outer_lr"]) + 1) + (values["model.dim"] == 8)


def tried(found: Any, numbers: range) -> list[dict[str, Any]]:
    values = []
    for number in numbers:
        values.append(found.suggest(f"trial-{number}"))
        result = {"m": distance(values[-1]), "training_iteration": 1}
        found.on_trial_complete(f"trial-{number}", result)
    return values


def test_later_trials_are_nearer_to_what_was_good() -> None:
    far = [distance(values) for values in tried(parzen(40), range(40))]
    assert sum(far[:10]) / 10 > 1.5 * sum(far[-10:]) / 10


def test_the_same_seed_tries_the_same_values_also_after_a_stop(tmp_path: Path) -> None:
    whole = tried(parzen(), range(30))
    assert tried(parzen(seed=1), range(3)) != whole[:3]
    first, file = parzen(), str(tmp_path / "searcher.pkl")
    tried(first, range(20))
    running = first.suggest("trial-20")
    first.save(file)
    again = parzen(seed=7)
    again.restore(file)
    # The trial that was running when the search stopped ends after it, and is learned from.
    again.on_trial_complete("trial-20", {"m": distance(running), "training_iteration": 1})
    assert running == whole[20]
    assert tried(again, range(21, 30)) == whole[21:]


def test_no_more_trials_run_beside_each_other_than_are_asked() -> None:
    found = parzen(beside=2)
    assert found.suggest("a")
    assert found.suggest("b")
    assert found.suggest("c") is None
    found.on_trial_complete("a", {"m": 1.0, "training_iteration": 1})
    assert found.suggest("c")


def test_a_trial_that_diverges_is_the_worst_and_one_that_runs_again_is_not_told_twice() -> None:
    found = parzen()
    found.suggest("a")
    found.on_trial_result("a", {"m": math.nan, "training_iteration": 1})
    found.on_trial_complete("a", {"m": math.nan, "training_iteration": 1})
    found.on_trial_result("a", {"m": 1.0, "training_iteration": 2})
    found.on_trial_complete("a", {"m": 1.0, "training_iteration": 2})
    assert [trial.state.name for trial in found._ot_study.trials] == ["PRUNED"]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Sweep.model_validate({"search": "optuna"})
    assert asked.planned == asked.trials
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"not installed: pip install 'metarec_ray\[optuna\]'"):
        search.require_installed(asked)
    search.require_installed(Sweep())
