"""Where the milliseconds of a training step go: writes one result file.

    python benchmarks/bench_where.py

One lane of the training benchmark's work, one thread, CPU time, the median of many repetitions. The
parts are found by leaving things out: the objective with nothing adapted is what encoding, looking
up, judging and their gradients cost; what adaptation adds to it is its own.
"""

import math
import statistics
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.machine import write_result
from benchmarks.train_cases import INNER_LR, LANE, OUTER_LR
from benchmarks.train_work import MODEL, make_lane, parameters, world
from metarec_ray.algorithms.base import MetaLearner, Problem, QueryLoss
from metarec_ray.algorithms.closed_form.bayesian import BayesianHead
from metarec_ray.algorithms.gradient.maml import Anil, Fomaml, Maml
from metarec_ray.algorithms.problem import Recipe
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.training.meta_step.step import apply, lane_result
from metarec_ray.training.process import set_up

REPETITIONS, LANES = 30, 6
LEARNERS: dict[str, MetaLearner] = {
    "maml, 1 step": Maml(inner_lr=INNER_LR, inner_steps=1),
    "maml, 5 steps": Maml(inner_lr=INNER_LR, inner_steps=5),
    "fomaml, 5 steps": Fomaml(inner_lr=INNER_LR, inner_steps=5),
    "anil, 5 steps": Anil(inner_lr=INNER_LR, inner_steps=5),
    "bayesian_head": BayesianHead(),
}


class Unadapted(Maml):
    """Judges the prior: everything of a step but adaptation."""

    ragged = False

    def objective_batch(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[torch.Tensor, torch.Tensor]:
        value = loss(lambda candidates: problem.predict(meta, candidates))
        return value, value.detach()


def main() -> None:
    """Measure every part and write the table."""
    set_up(torch.device("cpu"))
    of = world()
    lanes = [make_lane(of, seed) for seed in range(LANES)]
    state = parameters(Maml(), len(of.features.tokens))

    def step_of(learner: MetaLearner) -> float:
        own = parameters(learner, len(of.features.tokens))
        recipe = Recipe.of(learner, MODEL, "explicit")
        return median_ms(lambda i: lane_result(recipe, of.buffers, own, lanes[i], **LANE))

    def encoded(i: int) -> None:
        rows = state.tables["item.ids"].index_select(0, lanes[i].items).requires_grad_()
        tokens = state.dense["item.tokens"].clone().requires_grad_()
        dense = state.dense | {"item.tokens": tokens}
        vector = MODEL.encode(dense, "item", lanes[i].item_features, rows)
        torch.autograd.grad(vector.sum(), [rows, tokens])

    recipe = Recipe.of(Maml(), MODEL, "explicit")
    results = [lane_result(recipe, of.buffers, state, lane, **LANE) for lane in lanes]
    encoding, unadapted = median_ms(encoded), step_of(Unadapted())
    decay = dict.fromkeys([*state.dense, *state.tables], 0.0)
    update = median_ms(
        lambda i: apply(state, [results[i]], step=i, lr=OUTER_LR, decay=decay, max_norm=math.inf)
    )
    lines = [
        "Milliseconds a lane of 32 tasks.",
        "",
        "| learner | encode items | look up, judge, and their gradients | adapt, and its gradient "
        "| update | in all | us a task |",
        "|---" * 7 + "|",
    ]
    for name, learner in LEARNERS.items():
        whole = step_of(learner)
        total = whole + update
        lines.append(
            f"| {name} | {encoding:.2f} | {unadapted - encoding:.2f} | {whole - unadapted:.2f} "
            f"| {update:.2f} | {total:.2f} | {1000 * total / 32:.0f} |"
        )
    text = "\n".join(lines)
    title = "Where a training step's time goes"
    write_result("where", title, "python -m benchmarks.bench_where", text)
    print(text)


def median_ms(work: Callable[[int], object]) -> float:
    """Return the median CPU milliseconds of `work(lane number)`."""
    spent = []
    for repetition in range(-LANES, REPETITIONS):
        started = time.process_time()
        work(repetition % LANES)
        if repetition >= 0:
            spent.append(1000 * (time.process_time() - started))
    return statistics.median(spent)


if __name__ == "__main__":
    sys.exit(main())
