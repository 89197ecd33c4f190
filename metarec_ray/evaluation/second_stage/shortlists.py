"""The shortlists that a second stage learns from: those of a fold its first stage has not seen.

Knows whose shortlists are worth learning from, what was known on the day they began, and the
protocol that says which items are relevant; does not know rankers.

Axes: T tasks, C items of a shortlist, E entities.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.features import item_knowledge
from metarec_ray.algorithms.second_stage.popularity import popularity_as_of
from metarec_ray.algorithms.second_stage.rankers.listwise import LabelledShortlists, concatenated
from metarec_ray.algorithms.second_stage.reranker import inputs_of
from metarec_ray.algorithms.second_stage.shortlist import Shortlist
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import DAY, Params
from metarec_ray.core.histories import Histories
from metarec_ray.data.tasks.folds import fold_of_entities
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError
from metarec_ray.evaluation.blend import support_sizes
from metarec_ray.evaluation.protocols.strict import StrictTasks, cut_tasks
from metarec_ray.inference.recommender import Recommender
from metarec_ray.inference.two_stage import CandidateRetriever, Catalogue
from metarec_ray.training.process import set_up

# As they were first tried on MovieLens-1M; none of them was chosen from others.
OLDEST = 0.2
"""Share of the entities that began first: too few came before them to tell what was popular."""
DELAY = 14.0  # days, at most, by which what is known of a day is late: a served model is not new
FADES = 120.0  # days in which an entity's extra weight falls to 1 / e
LEAST = 0.3  # weight of a task that began long ago
CHUNK = 256  # tasks whose shortlists are made side by side


class FoldRequest(NamedTuple):
    """What the shortlists of a fold are made from; it can be sent to other processes."""

    experiment: Experiment
    store: Path
    fold: int
    first: Checkpoint  # the first stage, fitted without the fold


class _Fold(NamedTuple):
    """The entities of a fold as tasks, and what others say of items."""

    tasks: StrictTasks
    retriever: CandidateRetriever
    known: Histories
    knowledge: Params
    moments: Tensor  # int64 [T]: as of when what is popular is told
    weight: Tensor  # float [T]

    def shortlists(self, k: int, tasks: Tensor) -> Shortlist:
        """Return the shortlists of some tasks after `k` events."""
        of = self.tasks.at(tasks)
        return self.retriever.shortlists(of.supports(k), of.candidates(k))

    def labelled(
        self, found: Shortlist, ks: list[int], as_of: Tensor, tasks: Tensor
    ) -> LabelledShortlists:
        """Return the shortlists `found` of some tasks with what is known and what is relevant."""
        of = self.tasks.at(tasks)
        return LabelledShortlists(
            inputs_of(found, self.knowledge, torch.tensor(ks), as_of),
            relevant=of.gains().bool().gather(1, found.item) & found.real,
            n_relevant=torch.full((len(tasks),), float(of.query.shape[1])),
            weight=self.weight[tasks],
        )


def training_histories(experiment: Experiment, store: TaskStore) -> Histories:
    """Return the histories that both stages learn from."""
    return store.histories(tuple(experiment.train.parts.split("+")))


def shortlists_of_fold(request: FoldRequest) -> LabelledShortlists:
    """Return the shortlists of the entities of a fold after each k, and which items are relevant.

    DataError if the fold has no entity to learn from.
    """
    set_up(torch.device("cpu"))
    fold, ks = _opened(request), support_sizes(request.experiment)
    chunks = torch.arange(len(fold.tasks.entity)).split(CHUNK)
    found = [[fold.shortlists(k, tasks) for tasks in chunks] for k in ks]
    # At once, because it goes through the whole log day by day.
    items = [torch.cat([one.item for one in after]) for after in found]
    as_of = popularity_as_of(fold.known, fold.moments, torch.cat(items, 1))
    of_ks = as_of.split(items[0].shape[1], 1)
    return concatenated(
        [
            fold.labelled(one, ks, told[tasks], tasks)
            for after, told in zip(found, of_ks, strict=True)
            for one, tasks in zip(after, chunks, strict=True)
        ]
    )


def _opened(request: FoldRequest) -> _Fold:
    experiment, store = request.experiment, TaskStore.open(request.store)
    stage = experiment.second_stage
    assert stage is not None
    everything = training_histories(experiment, store)
    inside = fold_of_entities(store.manifest.tasks, stage.folds)[everything.task_id] == request.fold
    least = experiment.evaluate.min_positives
    taught = inside & _worth_learning(everything, least=least, most=stage.entities)
    if not taught.any():
        raise DataError(
            f"a second stage learns from entities with >= {least} events (evaluate.min_positives) "
            f"in each of {stage.folds} folds, fold {request.fold} has none (second_stage.folds)"
        )
    known = everything.take((~inside).nonzero().flatten())
    # A fold may have fewer entities than a table concludes from.
    settings = experiment.evaluate.model_copy(update={"force": True})
    own = everything.take(taught.nonzero().flatten())
    tasks = cut_tasks(known, own, settings, positive_min=None, part="train")
    # By task id, as the tasks are: not every entity has enough events on items that others met.
    start = everything.starts()[torch.searchsorted(everything.task_id, tasks.entity)]
    generator = torch.Generator().manual_seed(experiment.run.seed * stage.folds + request.fold)
    late = torch.rand(len(start), generator=generator, dtype=torch.float64) * DELAY * DAY
    first = Recommender(request.first)
    return _Fold(
        tasks,
        CandidateRetriever(
            first.predictor,
            first.feedback,
            Catalogue(first.trained, first.by_id),
            candidates=stage.candidates,
        ),
        known,
        item_knowledge(known),
        start - late.long(),
        _weights(start, everything.cutoff),
    )


def _worth_learning(histories: Histories, *, least: int, most: int) -> Tensor:
    """Return which entities are learned from, bool [E]: long enough, and the newest of them."""
    long = (histories.lengths() >= least).nonzero().flatten()
    order = long[histories.starts()[long].argsort(stable=True)]
    if histories.cutoff is not None:
        order = order[int(OLDEST * len(order)) :]
    chosen = torch.zeros(histories.n_entities, dtype=torch.bool)
    chosen[order[-most:]] = True
    return chosen


def _weights(start: Tensor, cutoff: int | None) -> Tensor:
    """Return the weight of each task by its entity's start: the newest ones are most alike."""
    if cutoff is None:
        return torch.ones(len(start))
    days = (cutoff - start).double() / DAY
    return (LEAST + (1 - LEAST) * torch.exp(-days / FADES)).float()
