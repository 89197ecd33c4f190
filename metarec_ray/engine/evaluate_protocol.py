"""The rows of a checkpoint or a configuration under the protocols other than `strict`.

Knows which simple methods a learner is compared with there; `evaluation` knows the tasks and what
is measured.
"""

from collections.abc import Callable
from pathlib import Path

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import FittedLearner
from metarec_ray.algorithms.closed_form.eb_ridge import EBRidge
from metarec_ray.algorithms.rivals.biases import UserItemBias
from metarec_ray.algorithms.rivals.counts import Constant, Popularity, Random, RecencyPopularity
from metarec_ray.algorithms.union import name_of
from metarec_ray.config.experiment import Experiment
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.prepare.ensure import ensure_store
from metarec_ray.evaluation.bench.protocols import Candidate, open_protocol
from metarec_ray.evaluation.rivals import fitted, standard_rivals
from metarec_ray.evaluation.table.rows import Header, Row, judge
from metarec_ray.inference.recommender import Recommender

BESIDE: dict[str, tuple[FittedLearner, ...]] = {
    "melu": (Constant(), UserItemBias(), EBRidge()),
    # Two ratings: chosen on late training films that were taken for new ones.
    "item_kshot": (Constant(), UserItemBias(user_shrink=2.0), EBRidge()),
    "cross_domain": (Random(), Popularity(), RecencyPopularity()),
}


def protocol_rows(
    experiment: Experiment,
    path: Path | None,
    protocol: str,
    *,
    data_dir: Path | None,
    progress: Callable[[str], None],
) -> list[Row]:
    """Return the rows of simple methods and, unless `path` is None, of that checkpoint.

    `run.seed` shuffles the tasks.

    Raises:
        ConfigError: the log's labels or entities are not those of the protocol, or the store was
            trained on rows that a partition holds out.
        CheckpointError: the checkpoint was trained on another store.
        DataError: files are missing, or too few tasks.

    """
    store = ensure_store(experiment, data_dir=data_dir, progress=progress)
    seed = experiment.run.seed
    opened = open_protocol(protocol, experiment, store, seed=seed, data_dir=data_dir)
    trained = None if path is None else load_trained(path, store)
    feedback = store.manifest.feedback
    beside = BESIDE.get(protocol) or standard_rivals(
        feedback, n_items=len(store.items.ids), positive_min=None
    )
    simple = [
        one
        for one in beside
        if feedback in one.suits and (trained is None or name_of(type(one)) != trained.method)
    ]
    progress(f"evaluate: fitting {len(simple)} simple methods")
    methods = [_candidate(fitted(learner, experiment, store), seed) for learner in simple]
    if trained is not None:
        methods.append(_candidate(trained, seed))
    progress(f"evaluate: judging {', '.join(one.name for one in methods)}")
    measured = [value for method in methods for value in opened.measure(method)]
    header = Header(Path(experiment.data.path).name, feedback, seed, protocol)
    return judge(measured, header, resamples=experiment.evaluate.resamples)


def load_trained(path: Path, store: TaskStore) -> Recommender:
    """Return the recommender of a checkpoint; CheckpointError if it is of another store."""
    loaded = checkpoints.load(path)
    checkpoints.require_store(loaded, path, store.manifest.store_sha256, store.path)
    return Recommender(loaded)


def _candidate(recommender: Recommender, seed: int) -> Candidate:
    return Candidate(recommender.method, recommender.kind, seed, recommender)
