"""What a sweep was begun with, and what it is resumed with."""

from pathlib import Path

import pytest

from metarec_ray.config.experiment import Experiment, override
from metarec_ray.data.store.manifest import Manifest
from metarec_ray.engine.tune import begun
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.validation import Objective

STORE = Manifest.model_construct(feedback="implicit", store_sha256="a" * 64)
NDCG = Objective("valid_ndcg@10", "max")


@pytest.fixture
def asked(tmp_path: Path) -> Experiment:
    experiment = override(Experiment(), {"run.dir": str(tmp_path / "sweep")})
    begun.write(experiment, STORE, NDCG, experiment.directory)
    return experiment


def test_a_sweep_that_was_moved_or_sent_as_a_job_is_the_same(
    asked: Experiment, tmp_path: Path
) -> None:
    asked.directory.rename(tmp_path / "moved")
    moved = override(asked, {"run.dir": str(tmp_path / "moved"), "sweep.max_concurrent": 1})
    begun.require_same(moved, STORE, NDCG, moved.directory)
    written_out = override(moved, {"train.loss.name": "softmax"})
    begun.require_same(written_out, STORE, NDCG, moved.directory)


def test_a_sweep_with_other_settings_is_refused_with_both_values(asked: Experiment) -> None:
    other = override(asked, {"sweep.trials": 3})
    with pytest.raises(ConfigError, match=r"sweep.trials was 8 and is 3 \(\S+/sweep.yaml\)"):
        begun.require_same(other, STORE, NDCG, asked.directory)
    with pytest.raises(ConfigError, match=r"run.seed was 0 and is 1"):
        begun.require_same(override(asked, {"run.seed": 1}), STORE, NDCG, asked.directory)


def test_a_sweep_on_another_store_is_refused(asked: Experiment) -> None:
    other = STORE.model_copy(update={"store_sha256": "b" * 64})
    with pytest.raises(ConfigError, match=r"on the store it began with, .* has aaaa.*, now bbbb"):
        begun.require_same(asked, other, NDCG, asked.directory)
    (asked.directory / begun.ON).unlink()  # of a sweep that did not write it down
    begun.require_same(asked, other, NDCG, asked.directory)


def test_a_sweep_that_was_judged_by_another_metric_is_refused(asked: Experiment) -> None:
    other = Objective("valid_log_loss", "min")
    with pytest.raises(ConfigError, match=r"has valid_ndcg@10, now valid_log_loss; choose another"):
        begun.require_same(asked, STORE, other, asked.directory)
    (asked.directory / begun.BY).unlink()  # of a version whose trials were judged otherwise
    with pytest.raises(ConfigError, match=r"has another metric, now valid_ndcg@10"):
        begun.require_same(asked, STORE, NDCG, asked.directory)
