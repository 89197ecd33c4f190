"""One meta-gradient of every run of a stack, on the same lanes.

What depends on no run is done once: lanes, masks, who competes with whom. What a run's encoders
make of items and users is made run by run, once a step (`encodings`); adapting and judging are
mapped over runs by vmap, lane by lane, so that what is in work stays small. No sum goes over runs:
NaN in one is in no other. Knows gradients; does not know optimizers, or how runs differ.

Axes: B runs of a stack, T tasks of a lane.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.algorithms.losses.base import ChoiceLoss
from metarec_ray.algorithms.problem import Recipe
from metarec_ray.core.batch import Lane, Params
from metarec_ray.core.parameters import Rows
from metarec_ray.training.meta_step.distillation import Teaching
from metarec_ray.training.meta_step.encoded_tasks import in_parts, offsets_of
from metarec_ray.training.meta_step.judged_tasks import objective_alone, shared_of, with_labels
from metarec_ray.training.meta_step.step import LaneResult, ParameterState
from metarec_ray.training.stacked.encodings import Encodings, LaneEncodings, StepTasks

AT_ONCE = 2**23
"""Numbers of the largest tensor that is computed at once: fewer waste calls, more need memory."""


class Run(NamedTuple):
    """The parameters of a run: what a step updates, and what it does not."""

    moving: ParameterState
    frozen: ParameterState


class Shared(NamedTuple):
    """What all runs of a stack have in common.

    Attributes:
        recipe: who learns; its rates are those of any run.
        buffers: of the model.
        adapting: names of the dense parameters that learners read, the others are encoders'.
        table_rows: of each table, whose ids its rows are.
        teaching: how much answers of a teacher count.

    """

    recipe: Recipe
    buffers: Params
    adapting: tuple[str, ...]
    table_rows: Mapping[str, Rows]
    teaching: Teaching | None = None


def stacked_results(
    shared: Shared, runs: list[Run], rates: Params, tasks: StepTasks, *, progress: float
) -> list[LaneResult]:
    """Return the mean gradient of all lanes for each run; there are no metrics.

    Args:
        shared: by all runs.
        runs: B of them.
        rates: float [B] of each hyper-parameter of the learner that runs differ in, by its name.
        tasks: of the step.
        progress: share of meta-training that is done.

    """
    leaves = [_leaves(shared, run, tasks) for run in runs]
    with torch.enable_grad():
        made = [tasks.encode(shared.recipe.model, own.dense, own.rows) for own in leaves]
        read = [Encodings(*(torch.stack(parts) for parts in zip(*made, strict=True)))]
        heads = {n: torch.stack([own.dense[n] for own in leaves]) for n in shared.adapting}
        cut = [value.detach().requires_grad_() for value in (*read[0], *heads.values())]
        encodings, dense = Encodings(*cut[:3]), dict(zip(heads, cut[3:], strict=True))
        for number in range(len(tasks.lanes)):
            objectives = _objectives(shared, number, tasks, progress)
            for some in _portions(len(runs), tasks.lanes[number], shared.recipe.model.hidden):
                part = Encodings(*(value[some] for value in encodings))
                of_some = [{n: v[some] for n, v in each.items()} for each in (dense, rates)]
                values = objectives(tasks.of_lane(number, part), *of_some)
                (values.mean(1).sum() / len(tasks.lanes)).backward()
    return _results(leaves, [*read[0], *heads.values()], cut)


def _portions(runs: int, lane: Lane, hidden: tuple[int, ...]) -> list[slice]:
    """Return runs that are computed at once; hidden units of every score are numbers, too."""
    each = max(1, AT_ONCE // (len(lane.entity) * len(lane.items) * max(hidden, default=1)))
    return [slice(first, first + each) for first in range(0, runs, each)]


class _Leaves(NamedTuple):
    """What a gradient is taken of, and what stands beside it."""

    dense: Params
    rows: Params  # of each table
    moving: list[str]  # names of dense parameters that have a gradient
    ids: dict[str, Tensor]  # of each table that has one: the rows that are read, unique
    unique: Params  # [n, D]: these rows


def _leaves(shared: Shared, run: Run, tasks: StepTasks) -> _Leaves:
    moving = {n: p.detach().requires_grad_() for n, p in run.moving.dense.items()}
    rows, ids, unique = {}, {}, {}
    for name, table in (run.moving.tables | run.frozen.tables).items():
        is_item = shared.table_rows[name].side == "item"
        found, inverse = tasks.items, None
        if not is_item:  # an entity may have several tasks of a step
            found, inverse = torch.unique(tasks.entity, return_inverse=True)
        value = table.index_select(0, found)
        if name in run.moving.tables:
            value = value.requires_grad_()
            ids[name], unique[name] = found, value
        with torch.enable_grad():
            rows[name] = value if inverse is None else value[inverse]
    return _Leaves(moving | run.frozen.dense, rows, list(moving), ids, unique)


def _objectives(
    shared: Shared, number: int, tasks: StepTasks, progress: float
) -> Callable[[LaneEncodings, Params, Params], Tensor]:
    """Return what gives the objective [B, T] of the tasks of a lane in every run."""
    lane, recipe = tasks.lanes[number], shared.recipe
    labelled, everything = with_labels(lane.tasks), [torch.arange(len(lane.entity))]
    offsets = offsets_of(shared.buffers, lane, of_items=isinstance(recipe.loss, ChoiceLoss))

    def of_run(own: LaneEncodings, dense: Params, rates: Params) -> Tensor:
        learner = recipe.learner.model_copy(update=rates)
        given = shared_of(
            recipe._replace(learner=learner),
            shared.buffers,
            lane,
            dense,
            own.item,
            progress=progress,
            teaching=shared.teaching,
        )
        contexts = [own.support_context, own.query_context]
        (whole,) = in_parts(labelled, everything, own.user, contexts, own.item, offsets)
        return objective_alone(given, whole)

    return vmap(of_run)


def _results(leaves: list[_Leaves], made: list[Tensor], cut: list[Tensor]) -> list[LaneResult]:
    """Return the gradients of every run, given those of what was made of their parameters."""
    asked = [[*(own.dense[n] for n in own.moving), *own.unique.values()] for own in leaves]
    outer = [(value, leaf.grad) for value, leaf in zip(made, cut, strict=True)]
    outer = [(value, grad) for value, grad in outer if grad is not None and value.requires_grad]
    found = iter(
        torch.autograd.grad(
            [value for value, _ in outer],
            [leaf for own in asked for leaf in own],
            [grad for _, grad in outer],
            materialize_grads=True,
        )
    )
    results = []
    for own in leaves:
        dense = {name: next(found) for name in own.moving}
        tables = {name: (own.ids[name], next(found)) for name in own.unique}
        results.append(
            LaneResult(
                dense=torch.cat([dense[name].flatten() for name in sorted(dense)]),
                rows=dict(sorted(tables.items())),
                metrics=torch.zeros(0),
            )
        )
    return results
