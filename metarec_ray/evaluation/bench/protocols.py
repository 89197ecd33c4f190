"""The protocols of a bench: the tasks of each on a store, and how recommenders are measured there.

Knows the tasks of every protocol; does not know what was fitted or where it ran.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from scipy.sparse import coo_array, csr_array

from metarec_ray.config.experiment import Experiment
from metarec_ray.data.datasets import by_name
from metarec_ray.data.log import reading, side_tables, sources
from metarec_ray.data.settings import Data
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.bench.leaks import (
    refuse_held_events,
    refuse_leaks_of_rankings,
    refuse_leaks_of_ratings,
)
from metarec_ray.evaluation.protocols import partition_files
from metarec_ray.evaluation.protocols.cross_domain import CrossDomainTasks, cross_domain_tasks
from metarec_ray.evaluation.protocols.item_kshot import kshot_tasks
from metarec_ray.evaluation.protocols.leave_last_out import last_event_tasks, with_whole_ranks
from metarec_ray.evaluation.protocols.predicted_ratings import Labels, label_range, measure_tasks
from metarec_ray.evaluation.protocols.ratings import RatingTasks, rule_tasks
from metarec_ray.evaluation.protocols.strict import (
    TRAINING,
    require_held_entities,
    strict_tasks,
)
from metarec_ray.evaluation.scoring import recommender_method
from metarec_ray.evaluation.table.comparison import UNTOLD
from metarec_ray.evaluation.table.ranking_measures import Measured, measure
from metarec_ray.inference.recommender import Recommender

RATINGS = ("melu", "item_kshot")  # a seed shuffles their tasks
PROTOCOLS = ("strict", *RATINGS, "cross_domain", "leave_last_out")


class Candidate(NamedTuple):
    """A fitted method that is judged."""

    name: str
    kind: str
    seed: int
    recommender: Recommender


class Opened(NamedTuple):
    """A protocol on a store.

    Attributes:
        measure: measures one candidate under every condition.
        entities: name of a judged entity -> its task id, if the store has it.

    """

    measure: Callable[[Candidate], list[Measured]]
    entities: dict[str, int]


def open_protocol(
    name: str, experiment: Experiment, store: TaskStore, *, seed: int, data_dir: Path | None
) -> Opened:
    """Return a protocol on a store; `seed` shuffles the tasks of ratings.

    Raises:
        ConfigError: no such protocol, or one that the store's feedback or entities do not suit.
        DataError: too few entities, files that are missing, or a split that leaks.

    """
    if name not in PROTOCOLS:
        raise ConfigError(f"--protocol must be one of {', '.join(PROTOCOLS)}, got {name!r}")
    feedback = store.manifest.feedback
    if name in RATINGS and feedback == "implicit":
        raise ConfigError(
            f"--protocol {name} judges predicted labels and needs explicit or binary feedback, got "
            f"{feedback} (data.feedback)"
        )
    if name == "leave_last_out":
        return _leave_last_out(experiment, store)
    require_held_entities(store, name)
    if name == "strict":
        return _strict(experiment, store)
    if name == "cross_domain":
        return _cross_domain(experiment, store)
    tasks = (_melu if name == "melu" else _kshot)(experiment, store, seed, data_dir)
    return _ratings(experiment, store, tasks, ks=name == "item_kshot")


def item_vectors(store: TaskStore) -> csr_array:
    """Return which entities have a training event with each item [I, E]; rows of norm 1 or 0.

    The distance of two items is one minus the cosine of their rows.
    """
    training = store.histories(TRAINING)
    n_items = training.n_items
    pairs = torch.unique(training.entity() * n_items + training.item)
    item, entity = pairs % n_items, pairs // n_items
    count = torch.bincount(item, minlength=n_items)
    values = (1 / count[item].sqrt()).numpy()
    shape = (n_items, training.n_entities)
    return csr_array(coo_array((values, (item.numpy(), entity.numpy())), shape=shape))


def _strict(experiment: Experiment, store: TaskStore) -> Opened:
    tasks, vectors = strict_tasks(store, experiment.evaluate), item_vectors(store)
    refuse_leaks_of_rankings(store, tasks)

    def judged(one: Candidate) -> list[Measured]:
        return measure(
            tasks,
            recommender_method(one.recommender, tasks, name=one.name)._replace(kind=one.kind),
            ks=experiment.evaluate.ks,
            seed=one.seed,
            ties=experiment.run.seed,
            clock=time.perf_counter,
            vectors=vectors,
        )

    return Opened(judged, {str(task): task for task in tasks.entity.tolist()})


def _leave_last_out(experiment: Experiment, store: TaskStore) -> Opened:
    settings, vectors = experiment.evaluate.leave_last_out, item_vectors(store)
    tasks = last_event_tasks(store, settings, force=experiment.evaluate.force)
    refuse_held_events(store, tasks)

    def judged(one: Candidate) -> list[Measured]:
        found = measure(
            tasks,
            recommender_method(one.recommender, tasks, name=one.name)._replace(kind=one.kind),
            ks=settings.ks,
            seed=one.seed,
            ties=experiment.run.seed,
            clock=time.perf_counter,
            vectors=vectors,
        )
        return [with_whole_ranks(measured, tasks) for measured in found]

    return Opened(judged, {str(task): task for task in tasks.entity.tolist()})


def _cross_domain(experiment: Experiment, store: TaskStore) -> Opened:
    settings, vectors = experiment.evaluate.cross_domain, item_vectors(store)
    directions = cross_domain_tasks(store, settings, force=experiment.evaluate.force)
    for tasks in directions:
        refuse_leaks_of_rankings(store, tasks)

    def rankings(tasks: CrossDomainTasks, one: Candidate) -> list[Measured]:
        return measure(
            tasks,
            recommender_method(one.recommender, tasks, name=one.name)._replace(kind=one.kind),
            ks=settings.ks,
            seed=one.seed,
            ties=experiment.run.seed,
            clock=time.perf_counter,
            vectors=vectors,
            scenario=tasks.direction,
        )

    def judged(one: Candidate) -> list[Measured]:
        found: list[Measured] = []
        for tasks in directions:
            told = rankings(tasks, one)
            untold = one._replace(name=one.name + UNTOLD, kind="control")
            alone = [] if one.kind == "floor" else rankings(tasks.without_source(), untold)
            found += told + alone * any(map(_differ, told, alone))
        return found

    entities = {str(task): task for tasks in directions for task in tasks.entity.tolist()}
    return Opened(judged, entities)


def _differ(told: Measured, alone: Measured) -> bool:
    return not torch.equal(told.values["auc"], alone.values["auc"])


def _melu(
    experiment: Experiment, store: TaskStore, seed: int, data_dir: Path | None
) -> list[RatingTasks]:
    found = Data.model_validate(store.manifest.settings)
    evaluate = experiment.evaluate
    if not partition_files.by_partition(found):
        return rule_tasks(store, evaluate.ratings, seed=seed, force=evaluate.force)
    partition_files.require_regime(found, seed)
    users, _ = side_tables.side_tables(sources.find(found, data_dir=data_dir))
    folder = data_dir if data_dir is not None else by_name.DEFAULT_FOLDER
    return partition_files.partition_tasks(folder, seed, store, users)


def _kshot(
    experiment: Experiment, store: TaskStore, seed: int, data_dir: Path | None
) -> list[RatingTasks]:
    settings = experiment.evaluate.item_kshot
    events = items = None
    if settings.rows is not None:
        found = Data.model_validate(store.manifest.settings)
        asked = found.model_copy(update={"only": settings.rows, "without": None})
        log = reading.read_log(asked, data_dir=data_dir)
        events, items = log.events, log.users
    force = experiment.evaluate.force
    return [kshot_tasks(store, settings, seed=seed, events=events, items=items, force=force)]


def _ratings(
    experiment: Experiment, store: TaskStore, scenarios: list[RatingTasks], *, ks: bool
) -> Opened:
    for tasks in scenarios:
        refuse_leaks_of_ratings(store, tasks)
    positive_min = experiment.evaluate.positive_min
    labels = Labels(store.manifest.feedback, label_range(store), positive_min)

    def judged(one: Candidate) -> list[Measured]:
        found = measure_tasks(
            one.recommender,
            scenarios,
            labels=labels,
            ks=experiment.evaluate.item_kshot.ks if ks else None,
            seed=one.seed,
            ties=experiment.run.seed,
            clock=time.perf_counter,
        )
        return [measured._replace(method=one.name, kind=one.kind) for measured in found]

    place = {name: task for task, name in enumerate(store.entity_ids())}
    names = {name for tasks in scenarios for name in tasks.entity}
    return Opened(judged, {name: place[name] for name in sorted(names) if name in place})
