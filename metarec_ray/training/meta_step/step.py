"""One meta-step: lane gradients, summed in lane order, one update of the shared state.

Knows how a lane's result is made and applied; how results travel between workers is `Exchange`'s
business. Lane sums are added in lane order whatever computed them, so that the parameters after a
step do not depend on the number of workers.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from metarec_ray.algorithms.problem import Recipe
from metarec_ray.core.batch import Lane, Params
from metarec_ray.core.outer_loop import meta_gradient
from metarec_ray.core.parameters import Declared, Part, Rows, split
from metarec_ray.errors import ConfigError, RunFailed
from metarec_ray.training.meta_step import tables
from metarec_ray.training.meta_step.distillation import Teaching
from metarec_ray.training.meta_step.objective import lane_objective
from metarec_ray.training.meta_step.optimizer import clip, moments, step_dense


class LaneResult(NamedTuple):
    """Gradients of one lane.

    Attributes:
        dense: one flat vector, parameters in name order.
        rows: of each table in name order, its unique row numbers and their gradients.
        metrics: [query loss, query metric].

    """

    dense: Tensor
    rows: dict[str, tuple[Tensor, Tensor]]
    metrics: Tensor


class Exchange(Protocol):
    """How lane results reach every worker."""

    rank: int
    world: int

    def gather(self, mine: dict[int, LaneResult], lanes: int) -> list[LaneResult]:
        """Return the results of all lanes, in lane order, on every worker."""
        ...


class Alone:
    """The exchange of a single process."""

    rank, world = 0, 1

    def gather(self, mine: dict[int, LaneResult], lanes: int) -> list[LaneResult]:
        return [mine[lane] for lane in range(lanes)]


class ParameterState(NamedTuple):
    """Everything a step changes, in place."""

    dense: Params
    tables: Params
    moments: Params


def fresh_state(declared: Declared, device: torch.device) -> ParameterState:
    """Return the state of step 0 on a device; on the CPU it shares the tensors of `declared`."""
    dense, rows = ({n: p.to(device) for n, p in part.items()} for part in split(declared))
    return ParameterState(dense, rows, moments(dense | rows))


def divide(
    state: ParameterState, declared: Declared, parts: Collection[Part]
) -> tuple[ParameterState, ParameterState]:
    """Return what is updated and what is frozen, the `parts`; both share the tensors of `state`.

    Raises:
        ConfigError: a part without parameters, or nothing left to update.

    """
    known = dict.fromkeys(parameter.part for parameter in declared.values())
    for part in parts:
        if part not in known:
            raise ConfigError(
                f"train.freeze must name parts that have parameters, {', '.join(known)}, got {part}"
            )
    fixed = {name for name, parameter in declared.items() if parameter.part in parts}
    if not set(state.dense) - fixed:
        raise ConfigError(
            f"train.freeze must leave dense parameters to train, got {', '.join(parts)}"
        )
    moving, frozen = (
        ParameterState(*({n: p for n, p in part.items() if (n in fixed) == held} for part in state))
        for held in (False, True)
    )
    return moving._replace(moments=state.moments), frozen._replace(moments={})


def lane_seed(seed: int, step: int, lane: int) -> int:
    """Return the seed of everything random in one lane, whatever worker computes it."""
    return int(np.random.SeedSequence([seed, 3, step, lane]).generate_state(1, np.uint64)[0] >> 1)


def to_device(lane: Lane, device: torch.device) -> Lane:
    """Return the lane with all its tensors on `device`."""
    return _moved(lane, device)


_NOTHING = ParameterState({}, {}, {})


def lane_result(
    recipe: Recipe,
    buffers: Params,
    state: ParameterState,
    lane: Lane,
    *,
    table_rows: Mapping[str, Rows],
    progress: float,
    seed: int,
    frozen: ParameterState = _NOTHING,
    teaching: Teaching | None = None,
) -> LaneResult:
    """Return the gradients of one lane, computed whole; `seed` decides all that is random in it.

    Parameters that are `frozen`, beside those of `state`, have no gradient. `table_rows` says of
    each table whose ids its rows are. `teaching` is how much the lane's answers of a teacher count.
    """
    fixed = {n: table[tables.entries(table_rows[n], lane)] for n, table in frozen.tables.items()}
    read = {n: tables.lookup(table_rows[n], table, lane) for n, table in state.tables.items()}
    objective = lane_objective(recipe, buffers, lane, progress=progress, teaching=teaching)

    def of_rows(dense: Params, values: Params) -> tuple[Tensor, Tensor]:
        rows = {name: read[name].each(value) for name, value in values.items()}
        return objective(dense | frozen.dense, rows | fixed)

    with torch.random.fork_rng(devices=[lane.items.device] if lane.items.is_cuda else []):
        # Not torch.manual_seed, which prepares every kind of device for its first use each time.
        torch.default_generator.manual_seed(seed)
        if lane.items.is_cuda:
            torch.cuda.manual_seed(seed)
        gradient = meta_gradient(of_rows, state.dense, {n: r.values for n, r in read.items()})
    return LaneResult(
        dense=torch.cat([gradient.dense[name].flatten() for name in sorted(state.dense)]),
        rows={name: (read[name].ids, gradient.rows[name]) for name in sorted(state.tables)},
        metrics=gradient.metrics,
    )


def apply(
    state: ParameterState,
    results: list[LaneResult],
    *,
    step: int,
    lr: float,
    decay: Mapping[str, float],
    max_norm: float,
) -> Tensor:
    """Update `state` by the mean gradient of all lanes; return the mean metrics.

    `decay` is the weight decay of every parameter.

    Raises:
        RunFailed: a lane's gradient is not finite; names the lanes.

    """
    flat = _ordered_mean([result.dense for result in results])
    rows = {n: tables.merge([result.rows[n] for result in results]) for n in results[0].rows}
    norm = clip([flat, *(gradient for _, gradient in rows.values())], max_norm)
    if not math.isfinite(norm):
        raise _not_finite(results, step)
    gradient = _unflatten(flat, state.dense)
    step_dense(state.dense, gradient, state.moments, step=step, lr=lr, decay=decay)
    for name, (ids, gradient) in rows.items():
        tables.update(
            name,
            state.tables[name],
            state.moments,
            ids,
            gradient,
            step=step,
            lr=lr,
            weight_decay=decay[name],
        )
    return _ordered_mean([result.metrics for result in results])


def _not_finite(results: list[LaneResult], step: int) -> RunFailed:
    bad = [lane for lane, result in enumerate(results) if not _is_finite(result)]
    return RunFailed(
        f"the meta-gradient must be finite, step {step} has NaN or infinity in lanes {bad}"
    )


def _is_finite(result: LaneResult) -> bool:
    gradients = [result.dense, *(gradient for _, gradient in result.rows.values())]
    return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def _ordered_mean(values: list[Tensor]) -> Tensor:
    total = values[0].clone()
    for value in values[1:]:
        total += value
    return total / len(values)


def _unflatten(flat: Tensor, like: Params) -> Params:
    gradients, at = {}, 0
    for name in sorted(like):
        size = like[name].numel()
        gradients[name] = flat[at : at + size].view_as(like[name])
        at += size
    return gradients


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    return type(value)(*(_moved(part, device) for part in value))
