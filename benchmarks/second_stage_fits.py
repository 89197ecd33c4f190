"""Second stages fitted on first stages that are fitted once, and what all that costs.

Knows fits and requests; does not know who is judged.
"""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.bench_adapt import quantile
from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import Fitting
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.data.files.hashes import sha256_json
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.second_stage.experiments import stage_experiments
from metarec_ray.evaluation.second_stage.fit import fit_second_stage
from metarec_ray.inference.recommender import Recommender, SupportEvent
from metarec_ray.inference.two_stage import TwoStage, first_stage_model
from metarec_ray.training.fit import fit

REQUESTS = 300


class Cost(NamedTuple):
    """What a second stage costs.

    Attributes:
        name: of it.
        first_seconds: CPU seconds of its first stages, all folds included.
        lists_seconds: of their lists.
        ranker_seconds: of the fits of what orders them.
        request_ms: of adapting and ranking, p50.
        added_ms: of that, the second stage, p50.

    """

    name: str
    first_seconds: float
    lists_seconds: float
    ranker_seconds: float
    request_ms: float
    added_ms: float


class Fits:
    """Fits of first stages, each made once."""

    def __init__(self, store: TaskStore, folder: Path):
        self.store, self.folder = store, folder

    def of(self, experiment: Experiment) -> Checkpoint:
        """Return the checkpoint of an experiment, with CPU seconds among its metrics."""
        path = self.folder / sha256_json([self.store.manifest.store_sha256, _asked(experiment)])
        if path.is_dir():
            return checkpoints.load(path)
        started = time.process_time()
        found = fit(experiment, self.store)
        seconds = {"cpu_seconds": round(time.process_time() - started, 1)}
        found = found._replace(metrics=found.metrics | seconds)
        checkpoints.save(found, path)
        return found


def _asked(experiment: Experiment) -> dict[str, Any]:
    """Return what the parameters of a first stage depend on beside the store."""
    sections = {"model", "algorithm", "train"}
    seed = experiment.run.seed
    return {"seed": seed, **experiment.model_dump(mode="json", include=sections)}


def fitted(name: str, asked: Experiment, fits: Fits) -> tuple[Checkpoint, Cost]:
    """Return both stages of an experiment, and what they cost."""
    stages = {name: fits.of(one) for name, one in stage_experiments(asked, fits.store).items()}
    seconds: list[float] = []
    each = partial(_timed, seconds)
    fitting = Fitting(asked.run.seed, each=each, progress=partial(print, file=sys.stderr))
    both = fit_second_stage(asked, fits.store, stages, fitting=fitting, started=time.perf_counter())
    firsts = sum(one.metrics["cpu_seconds"] for one in stages.values())
    lists, ranker = seconds
    return both, Cost(name, firsts, lists, ranker, *_request_times(Recommender(both)))


def _timed(seconds: list[float], function: Callable, values: Sequence) -> list:
    """Map a function over values, and add the CPU seconds it took."""
    started = time.process_time()
    found = [function(value) for value in values]
    seconds.append(time.process_time() - started)
    return found


def first_stage_of(both: Checkpoint) -> Checkpoint:
    """Return the first stage of a checkpoint."""
    config = {**both.config, "second_stage": None}
    return both._replace(config=config, model=first_stage_model(both.model))


def _request_times(recommender: Recommender) -> tuple[float, float]:
    """Return p50 in ms of a request with ten events, and of its second stage alone."""
    stages = recommender.predictor
    assert isinstance(stages, TwoStage)
    rows = torch.randint(len(recommender.ids), (10,), generator=torch.Generator().manual_seed(0))
    moments = [1_000_000_000_000_000 + 20_000_000 * number for number in range(10)]
    events = [
        SupportEvent(recommender.ids[row], time=moment)
        for row, moment in zip(rows.tolist(), moments, strict=True)
    ]
    supports = recommender._supports(events, {}, {})
    asked = stages.candidates.shortlists(supports)
    with torch.inference_mode():
        whole = _p50(lambda: recommender.rank(events))
        return whole, _p50(lambda: stages.reranker.scores(asked))


def _p50(work: Callable[[], object]) -> float:
    found = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        work()
        found.append((time.perf_counter() - started) * 1e3)
    return quantile(found, 0.5)
