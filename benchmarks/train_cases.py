"""The training benchmark's cases: who trains what, by how many inner steps.

Knows how each implementation takes a step and what its meta-gradient is; does not know clocks.
"""

import math
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import train_peers as peers
from benchmarks.train_work import MODEL, Batch, World, doubled, parameters, unpadded
from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.algorithms.closed_form.bayesian import BayesianHead
from metarec_ray.algorithms.gradient.maml import (
    Anil,
    Fomaml,
    GradientLearner,
    Maml,
    MetaSgd,
    Reptile,
)
from metarec_ray.algorithms.problem import Recipe
from metarec_ray.core.batch import Lane, Params
from metarec_ray.core.outer_loop import LaneObjective, meta_gradient
from metarec_ray.core.parameters import Rows
from metarec_ray.training.meta_step.objective import lane_objective
from metarec_ray.training.meta_step.step import LaneResult, ParameterState, apply, lane_result

INNER_LR, OUTER_LR, PROGRESS = 0.02, 1e-3, 0.5
LANE: dict[str, Any] = {
    "table_rows": {"item.ids": Rows("item", "ids")},
    "progress": PROGRESS,
    "seed": 0,
}
"""How the gradients of a lane are asked for."""
GRADIENT_LEARNERS: dict[str, type[GradientLearner]] = {
    "maml": Maml,
    "fomaml": Fomaml,
    "anil": Anil,
    "meta_sgd": MetaSgd,
    "reptile": Reptile,
}
ALGORITHMS = {
    "ours": (*GRADIENT_LEARNERS, "bayesian_head"),
    "vmap": (*GRADIENT_LEARNERS, "bayesian_head"),
    "loop": ("maml", "fomaml", "anil"),
    "learn2learn": ("maml", "fomaml"),
    "torchopt": ("maml",),
}
PEERS: dict[str, Callable[[peers.Recommender, Batch, peers.Inner], Tensor]] = {
    "loop": peers.loop,
    "learn2learn": peers.learn2learn,
    "torchopt": peers.torchopt,
}


class Case(NamedTuple):
    """One row of the table; a closed form has no inner steps."""

    implementation: str
    algorithm: str
    inner_steps: int

    def learner(self) -> MetaLearner:
        """Return the product's learner of the algorithm."""
        if self.algorithm == "bayesian_head":
            return BayesianHead()
        learner = GRADIENT_LEARNERS[self.algorithm]
        return learner(inner_lr=INNER_LR, inner_steps=self.inner_steps, prior_events=0.0)

    @property
    def first_order(self) -> bool:
        """Whether no second derivative is taken."""
        return getattr(self.learner(), "first_order", False)


def all_cases(steps: Sequence[int] = (1, 5)) -> list[Case]:
    """Return all that can run here: TorchOpt, if it is installed."""
    return [
        Case(implementation, algorithm, count)
        for count in steps
        for implementation, algorithms in ALGORITHMS.items()
        for algorithm in algorithms
        if implementation != "torchopt" or find_spec("torchopt")
        if algorithm in GRADIENT_LEARNERS
    ] + [Case(implementation, "bayesian_head", 0) for implementation in ("ours", "vmap")]


def training(
    case: Case, of: World, state: ParameterState, lanes: Sequence[Lane]
) -> Callable[[int], object]:
    """Return what takes step i, from 0, on the lanes in turn, outer Adam included."""
    if case.implementation not in PEERS:
        computed = _own(case, of, state)
        decay = dict.fromkeys([*state.dense, *state.tables], 0.0)

        def own_step(index: int) -> None:
            result = computed(lanes[index % len(lanes)])
            apply(state, [result], step=index, lr=OUTER_LR, decay=decay, max_norm=math.inf)

        return own_step
    model, backward = _peer(case, state)
    # Dense and fused: torch has no fused Adam for touched rows, which costs more at this size.
    adam = torch.optim.Adam(model.parameters(), lr=OUTER_LR, fused=True)
    batches = [unpadded(lane, of.buffers["offset"]) for lane in lanes]

    def peer_step(index: int) -> None:
        adam.zero_grad()
        backward(batches[index % len(batches)])
        adam.step()

    return peer_step


def gradient(case: Case, of: World, state: ParameterState, lane: Lane) -> Params:
    """Return the meta-gradient of a lane, of every parameter whole."""
    if case.implementation in PEERS:
        model, backward = _peer(case, state)
        backward(unpadded(lane, of.buffers["offset"]))
        return model.gradient()
    result = _own(case, of, state)(lane)
    dense = {name: state.dense[name] for name in sorted(state.dense)}
    parts = result.dense.split([value.numel() for value in dense.values()])
    pairs = zip(dense.items(), parts, strict=True)
    found = {name: part.view_as(value) for (name, value), part in pairs}
    for name, (ids, rows) in result.rows.items():
        found[name] = torch.zeros_like(state.tables[name]).index_copy(0, ids, rows)
    return found


def errors(cases: Sequence[Case], of: World, lane: Lane) -> dict[Case, float]:
    """Return each case's largest relative error to the oracle on a lane, in float64."""
    of, lane = doubled(of), doubled(lane)
    expected: dict[Case, Params] = {}
    found: dict[Case, float] = {}
    for case in cases:
        state: ParameterState = doubled(parameters(case.learner(), len(of.features.tokens)))
        exact = case._replace(implementation="vmap")
        if exact not in expected:
            expected[exact] = gradient(exact, of, state, lane)
        found[case] = relative_error(gradient(case, of, state, lane), expected[exact])
    return found


def relative_error(found: Params, expected: Params) -> float:
    """Return the largest error of an element, relative to the largest element of its tensor."""
    ratios = [
        # What should be 0 and is has no error, and anything else there an enormous one.
        (value - exact).abs().max() / exact.abs().max().clamp(min=torch.finfo(exact.dtype).tiny)
        for value, exact in ((value, expected[name]) for name, value in found.items())
        if value.numel()
    ]
    return float(torch.stack(ratios).max())


def oracle(learner: MetaLearner, buffers: Params, lane: Lane) -> LaneObjective:
    """Return the lane's objective as vmap over the objective of one task."""
    recipe = Recipe.of(learner, MODEL, "explicit")
    return lane_objective(recipe, buffers, lane, progress=PROGRESS, oracle=True)


def _own(case: Case, of: World, state: ParameterState) -> Callable[[Lane], LaneResult]:
    """Return what computes a lane's gradients: the product's step, or the oracle in its place."""
    learner, buffers = case.learner(), of.buffers
    if case.implementation == "ours":
        recipe = Recipe.of(learner, MODEL, "explicit")
        return lambda lane: lane_result(recipe, buffers, state, lane, **LANE)

    def by_oracle(lane: Lane) -> LaneResult:
        rows = {"item.ids": state.tables["item.ids"][lane.items]}
        found = meta_gradient(oracle(learner, buffers, lane), state.dense, rows)
        return LaneResult(
            dense=torch.cat([found.dense[name].flatten() for name in sorted(found.dense)]),
            rows={"item.ids": (lane.items, found.rows["item.ids"])},
            metrics=found.metrics,
        )

    return by_oracle


def _peer(case: Case, state: ParameterState) -> tuple[peers.Recommender, Callable[[Batch], None]]:
    """Return a peer's copy of the model, and what adds a batch's meta-gradient to its `.grad`."""
    model = peers.Recommender(state.dense, state.tables)
    inner = peers.Inner(INNER_LR, case.inner_steps, case.first_order)
    loss = peers.loop_last if case.algorithm == "anil" else PEERS[case.implementation]
    return model, lambda batch: loss(model, batch, inner).backward()
