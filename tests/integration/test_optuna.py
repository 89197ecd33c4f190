"""A sweep that learns from its trials, on Ray; skipped without the extra."""

import os
import signal
from pathlib import Path

import pytest

from metarec_ray.config.experiment import parse
from metarec_ray.engine.tune import search
from metarec_ray.engine.tune.driver import sweep
from metarec_ray.engine.tune.parzen import ParzenSearch
from metarec_ray.evaluation.validation import Objective

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
pytest.importorskip("optuna", reason="the extra optuna is not installed")


def test_a_sweep_that_was_interrupted_tries_what_it_would_have_tried(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    tree = {
        "run": {"dir": str(tmp_path), "store": str(synthetic_store)},
        "model": {"dim": 4},
        "algorithm": {"name": "recency_popularity"},
        "sweep": {
            "search": "optuna",
            "trials": 3,
            "max_concurrent": 1,
            "space": {"algorithm.half_life_days": {"low": 1.0, "high": 100.0}},
        },
    }
    asked = parse(tree, "the test")

    def press(line: str) -> None:
        if line.startswith("tune: trial 1/"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sweep(asked, resume=False, data_dir=None, progress=press)
    found = sweep(asked, resume=True, data_dir=None, progress=print)

    alone = ParzenSearch(Objective("valid_ndcg@10", "max"), trials=3, beside=1, seed=0)
    alone.set_search_properties("valid_ndcg@10", "max", search.parameter_space(asked.sweep))
    for number, trial in enumerate(found.trials):
        assert alone.suggest(str(number)) == trial["values"]
        told = {"valid_ndcg@10": trial["valid_ndcg@10"], "training_iteration": 1}
        alone.on_trial_result(str(number), told)
        alone.on_trial_complete(str(number), told)
    assert len(found.trials) == 3
