"""The protocol `melu` of a checkpoint or a configuration.

Knows which logs and stores it may be asked of; what is measured and how is `evaluation`'s business.
"""

import time
from collections.abc import Callable
from pathlib import Path

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.rivals import Constant, EBRidge, UserItemBias
from metarec_ray.config import Experiment
from metarec_ray.data import datasets, logs, sources
from metarec_ray.data.settings import Data, Rows
from metarec_ray.engine.stores import ensure_store
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.melu import (
    SEEDS,
    MeluSplit,
    Predictor,
    fitted_predictor,
    read_split,
)
from metarec_ray.evaluation.melu_learner import recommender_predictor
from metarec_ray.evaluation.melu_table import evaluate_melu
from metarec_ray.evaluation.table import Row
from metarec_ray.recommender import Recommender

LOG = "ml-1m"
WARM = Rows(path="melu_protocol/scenario_by_row.parquet", column="scenario", value="warm")


def melu_rows(
    experiment: Experiment,
    path: Path | None,
    *,
    data_dir: Path | None,
    progress: Callable[[str], None],
) -> list[Row]:
    """Return the rows of simple methods and, unless `path` is None, of that checkpoint.

    The shuffle of the partition is number `run.seed` mod 5.

    Raises:
        ConfigError: the experiment is not about the ratings of MovieLens-1M, or its learner was
            trained on rows that the protocol holds out.
        CheckpointError: the checkpoint was trained on another store.
        DataError: files of the partition are missing.

    """
    data, seed = experiment.data, experiment.run.seed % SEEDS
    if Path(data.path).name != LOG or data.feedback != "explicit":
        raise ConfigError(
            f"--protocol melu judges explicit feedback on {LOG}, got {data.feedback} feedback on "
            f"{data.path} (data.feedback, data.path)"
        )
    split = read_split(data_dir if data_dir is not None else datasets.DEFAULT_FOLDER, seed)
    learner = None
    if path is not None:
        learner = _learner(experiment, path, split, data_dir=data_dir, progress=progress)
    simple = [Constant(), UserItemBias(), EBRidge()]
    progress(f"evaluate: shuffle {seed} of the partition; fitting {len(simple)} simple methods")
    predictors = [fitted_predictor(one, split, clock=time.perf_counter) for one in simple]
    predictors += [] if learner is None else [learner]
    progress(f"evaluate: judging {', '.join(one.name for one in predictors)}")
    return evaluate_melu(split, predictors, seed=seed, resamples=experiment.evaluate.resamples)


def held_out(seed: int) -> Rows:
    """Return the query rows of one shuffle of the partition."""
    return Rows(path=f"melu_protocol/tasks_seed{seed}.parquet", column="role", value="query")


def require_warm(found: Data, seed: int) -> None:
    """Raise a ConfigError unless a store of these settings holds just what may train."""
    for name, wanted, got in (
        ("only", WARM, found.only),
        ("without", held_out(seed), found.without),
    ):
        if got != wanted:
            raise ConfigError(
                f"--protocol melu with run.seed mod {SEEDS} = {seed} judges what was trained with "
                f"data.{name} = {wanted.model_dump()}, got {got and got.model_dump()}"
            )


def _learner(
    experiment: Experiment,
    path: Path,
    split: MeluSplit,
    *,
    data_dir: Path | None,
    progress: Callable[[str], None],
) -> Predictor:
    store = ensure_store(experiment, data_dir=data_dir, progress=progress)
    require_warm(Data.model_validate(store.manifest.settings), experiment.run.seed % SEEDS)
    loaded = checkpoints.load(path)
    checkpoints.require_store(loaded, path, store.manifest.store_sha256, store.path)
    users, _ = logs.side_tables(sources.find(experiment.data, data_dir=data_dir))
    seconds = float(loaded.metrics.get("seconds", 0.0))
    return recommender_predictor(Recommender(loaded), split, users, fit_seconds=seconds)
