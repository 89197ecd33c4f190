"""The lists that a second stage learns from: what a first stage says of a fold it has not seen.

Knows whose lists are worth learning from, what was known on the day they began, and the protocol
that says which items are relevant; does not know networks.

Axes: T tasks, C items of a list, E entities.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.features import item_knowledge
from metarec_ray.algorithms.second_stage.fitting import Graded, joined
from metarec_ray.algorithms.second_stage.popularity import popularity_as_of
from metarec_ray.algorithms.second_stage.reranker import inputs_of
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import DAY, Params
from metarec_ray.core.histories import Histories
from metarec_ray.data.tasks.folds import dealt
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError
from metarec_ray.evaluation.blend import support_sizes
from metarec_ray.evaluation.protocols.strict import StrictTasks, cut_tasks
from metarec_ray.inference.predictor import as_blend
from metarec_ray.inference.recommender import Recommender
from metarec_ray.inference.two_stage import Catalogue, FirstStage
from metarec_ray.training.process import set_up

OLDEST = 0.2
"""Share of the entities that began first: too few came before them to tell what was popular."""
DELAY = 14.0  # days, at most, by which what is known of a day is late: a served model is not new
FADES = 120.0  # days in which an entity's extra weight falls to 1 / e
LEAST = 0.3  # weight of a task that began long ago
CHUNK = 256  # tasks whose shortlists are made side by side


class Fit(NamedTuple):
    """What the lists of a fold are made from, as values that can be sent to other processes."""

    experiment: Experiment
    store: Path
    fold: int
    first: Checkpoint  # fitted without the fold


def lists_of_fold(asked: Fit) -> Graded:
    """Return the shortlists of the entities of a fold, after each k, and what is relevant."""
    set_up(torch.device("cpu"))
    experiment, store = asked.experiment, TaskStore.open(asked.store)
    stage = experiment.second_stage
    assert stage is not None
    everything = training_histories(experiment, store)
    inside = dealt(store.manifest.tasks, stage.folds)[everything.task_id] == asked.fold
    known = everything.take((~inside).nonzero().flatten())
    taught = everything.take((inside & _newest(everything, experiment)).nonzero().flatten())
    settings = experiment.evaluate.model_copy(update={"force": True})
    tasks = cut_tasks(known, taught, settings, positive_min=None, part="train")
    recommender = Recommender(asked.first)
    first = FirstStage(
        as_blend(recommender.predictor, recommender.feedback),
        Catalogue(recommender.trained, recommender.by_id),
        candidates=stage.candidates,
    )
    generator = torch.Generator().manual_seed(experiment.run.seed * stage.folds + asked.fold)
    late = torch.rand(len(tasks.entity), generator=generator, dtype=torch.float64) * DELAY * DAY
    moments = tasks.time[:, 0] - late.long()
    knowledge = item_knowledge(known)
    weight = _weights(tasks.time[:, 0], everything.cutoff)
    ks = support_sizes(experiment)
    return joined([_after(k, ks, tasks, first, knowledge, known, moments, weight) for k in ks])


def _after(
    k: int,
    ks: list[int],
    tasks: StrictTasks,
    first: FirstStage,
    knowledge: Params,
    known: Histories,
    moments: Tensor,
    weight: Tensor,
) -> Graded:
    """Return the graded lists of tasks after `k` events."""
    supports, found = tasks.supports(k), list[Graded]()
    for some in torch.arange(len(tasks.entity)).split(CHUNK):
        of = tasks.at(some)
        asked = first.shortlists(supports.at(some), of.candidates(k))
        log_share = popularity_as_of(known, moments[some], asked.item)
        relevant = of.gains().bool().gather(1, asked.item) & asked.real
        wanted = torch.full((len(some),), float(of.query.shape[1]))
        inputs = inputs_of(asked, knowledge, torch.tensor(ks), log_share)
        found.append(Graded(inputs, relevant, wanted, weight[some]))
    return joined(found)


def training_histories(experiment: Experiment, store: TaskStore) -> Histories:
    """Return the histories that both stages learn from."""
    parts = "train+valid" if experiment.blend.members else experiment.train.parts
    return store.histories(tuple(parts.split("+")))


def _newest(histories: Histories, experiment: Experiment) -> Tensor:
    """Return which entities are learned from, bool [E]: long enough, and the newest of them.

    DataError if a fold has none.
    """
    stage, least = experiment.second_stage, experiment.evaluate.min_positives
    assert stage is not None
    lengths = histories.lengths()
    start = torch.zeros(histories.n_entities, dtype=torch.int64)
    start[lengths > 0] = histories.time[histories.offsets[:-1][lengths > 0]]
    long = (lengths >= least).nonzero().flatten()
    order = long[start[long].argsort(stable=True)]
    if histories.cutoff is not None:
        order = order[int(OLDEST * len(order)) :]
    chosen = torch.zeros(histories.n_entities, dtype=torch.bool)
    chosen[order[-stage.entities :]] = True
    if len(order) < stage.folds:
        raise DataError(
            f"a second stage learns from entities with >= {least} events "
            f"(evaluate.min_positives), one in each of {stage.folds} folds at least, got "
            f"{len(order)} among {histories.n_entities} (second_stage)"
        )
    return chosen


def _weights(start: Tensor, cutoff: int | None) -> Tensor:
    """Return the weight of each task by its entity's start: the newest ones are most alike."""
    if cutoff is None:
        return torch.ones(len(start))
    days = (cutoff - start).double() / DAY
    return (LEAST + (1 - LEAST) * torch.exp(-days / FADES)).float()
