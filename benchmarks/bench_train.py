"""Measure what training costs: ours, our vmap oracle, and peers that compute the same gradients.

    python -m benchmarks.bench_train [--json] [--quick]

One process, one torch thread, CPU time, the implementations in turn batch by batch, the outer Adam
included. Writes benchmarks/results/train_<hardware>_<date>.md, with neither option. The exit code
is 1 if a gradient is not the oracle's.
"""

import argparse
import gc
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from benchmarks.machine import write_result
from benchmarks.train_cases import Case, all_cases, errors, training
from benchmarks.train_memory import Growth, Variant, each_alone, growth, peak_mb
from benchmarks.train_work import TASKS, flops, make_lane, parameters, world

TITLE = "Meta-training on one core, beside peers"
TOLERANCE = 1e-6
ROUNDS, QUICK_S = 40, 40.0  # a quick run begins no round later than this
LANES, GEMMS = 8, 50
SHAPES = ((1920, 128, 64), (1920, 256, 64))

MAML_5, MAML_1 = (Case("ours", "maml", steps) for steps in (5, 1))
LEARN2LEARN_5, LEARN2LEARN_1 = (Case("learn2learn", "maml", steps) for steps in (5, 1))
Bar = tuple[Case, Case | None, float]
"""Who, compared with whom (None: the floor), at least."""
BARS: tuple[Bar, ...] = (
    (MAML_5, LEARN2LEARN_5, 5.0),
    (MAML_5, Case("torchopt", "maml", 5), 5.0),
    (MAML_5, Case("vmap", "maml", 5), 2.5),
    (MAML_5, None, 0.35),
    (MAML_1, LEARN2LEARN_1, 7.0),
    (MAML_1, Case("torchopt", "maml", 1), 7.0),
    (MAML_1, None, 0.27),
    (Case("ours", "fomaml", 5), Case("loop", "fomaml", 5), 5.5),
    (Case("ours", "anil", 5), LEARN2LEARN_5, 15.0),
    (Case("ours", "bayesian_head", 0), LEARN2LEARN_5, 15.0),
)


class Row(NamedTuple):
    """One line of the table, and of the JSON.

    Attributes:
        inner_steps: 0 for a closed form.
        ratio_to_learn2learn: to its second-order MAML at as many steps, at 5 for a closed form.
        roofline_share: of the least time the task's products take (`flops`), None without such.
        peak_rss_mb: of a process of its own, the imports that are the same for all included.
        max_rel_error: of the meta-gradient to the oracle's, in float64.

    """

    implementation: str
    algorithm: str
    first_order: bool
    inner_steps: int
    tasks_per_s: float
    ratio_to_learn2learn: float
    roofline_share: float | None
    peak_rss_mb: float
    max_rel_error: float


class Timed(NamedTuple):
    """What was measured over some rounds of a batch each.

    Attributes:
        seconds: CPU time of a batch, mean over the rounds.
        gemm: of each shape of matrix products, floating-point operations a second.

    """

    seconds: dict[Case, float]
    gemm: dict[tuple[int, int, int], float]
    rounds: int


def main() -> int:
    """Measure, print, write the result file; 1 if a gradient is not the oracle's."""
    parser = argparse.ArgumentParser(description="Measure what training costs, beside peers.")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")
    parser.add_argument("--quick", action="store_true", help="fewer batches: within a minute")
    arguments = parser.parse_args()
    last = time.perf_counter() + (QUICK_S if arguments.quick else math.inf)
    torch.set_num_threads(1)
    cases, of = all_cases(), world()
    variants = memory_variants()
    memory = dict(zip(variants, each_alone(growth, variants), strict=True))
    peaks = dict(zip(cases, each_alone(peak_mb, cases), strict=True))
    wrong = errors(cases, of, make_lane(of, 99, 8))
    lanes = [make_lane(of, seed) for seed in range(LANES)]
    steps = {case: training(case, of, parameters(case.learner()), lanes) for case in cases}
    timed = measure(steps, last=last)
    support = sum(int(lane.tasks.support.mask.sum()) for lane in lanes) / LANES / TASKS
    rows = [as_row(case, timed, support, peaks[case], wrong[case]) for case in cases]
    if arguments.json:
        grown = [variant._asdict() | taken._asdict() for variant, taken in memory.items()]
        found = [row._asdict() for row in rows]
        print(json.dumps({"rows": found, "memory": grown, "gemm_gflops": floor(timed) / 1e9}))
    else:
        text = render(rows, timed, memory)
        print(text)
        if not arguments.quick:
            write_result("train", TITLE, "python -m benchmarks.bench_train", text)
    return int(not all(error < TOLERANCE for error in wrong.values()))


def measure(steps: Mapping[Case, Callable[[int], object]], *, last: float) -> Timed:
    """Take the steps in turn, `ROUNDS` times, two at least if the wall clock passes `last`."""
    seconds = dict.fromkeys(steps, 0.0)
    products = {shape: _product(*shape) for shape in SHAPES}
    gemm = dict.fromkeys(SHAPES, 0.0)
    for step in steps.values():
        step(0)
    gc.collect()
    gc.freeze()  # or a collection walks all of torch, in whose turn it happens to fall
    rounds = 0
    while rounds < ROUNDS and (rounds < 2 or time.perf_counter() < last):
        rounds += 1
        for case, step in steps.items():
            seconds[case] += _cpu_seconds(step, rounds)
        for shape, product in products.items():
            gemm[shape] += _cpu_seconds(product, GEMMS)
    count = rounds * GEMMS * 2
    return Timed(
        seconds={case: total / rounds for case, total in seconds.items()},
        gemm={shape: count * math.prod(shape) / total for shape, total in gemm.items()},
        rounds=rounds,
    )


def _cpu_seconds(function: Callable[[int], object], argument: int) -> float:
    started = time.process_time()
    function(argument)
    return time.process_time() - started


def _product(rows: int, inner: int, columns: int) -> Callable[[int], None]:
    left, right, out = (torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(0))

    def several(times: int) -> None:
        for _ in range(times):
            torch.mm(left, right, out=out)

    return several


def floor(timed: Timed) -> float:
    """Return the best rate of matrix products, in operations a second: what no step can pass."""
    return max(timed.gemm.values())


def as_row(case: Case, timed: Timed, support: float, peak: float, error: float) -> Row:
    """Return a row of the table; `support` events a task, `peak` in megabytes."""
    seconds = timed.seconds[case]
    least = flops(case.algorithm, steps=case.inner_steps, rows=support)
    rival = LEARN2LEARN_5._replace(inner_steps=case.inner_steps or 5)
    return Row(
        implementation=case.implementation,
        algorithm=case.algorithm,
        first_order=case.first_order,
        inner_steps=case.inner_steps,
        tasks_per_s=TASKS / seconds,
        ratio_to_learn2learn=timed.seconds[rival] / seconds,
        roofline_share=None if least is None else least * TASKS / seconds / floor(timed),
        peak_rss_mb=peak,
        max_rel_error=error,
    )


def bars(rows: Sequence[Row], asked_for: Sequence[Bar] = BARS) -> list[str]:
    """Return what was asked and what was found, as lines of a table; without TorchOpt, less."""
    found = {Case(row.implementation, row.algorithm, row.inner_steps): row for row in rows}
    lines = []
    for of, over, asked in asked_for:
        if over is not None and over not in found:
            continue
        value = found[of].roofline_share or 0.0
        if over is not None:
            value = found[of].tasks_per_s / found[over].tasks_per_s
        names = [" ".join(map(str, one)) if one else "the floor" for one in (of, over)]
        reached = "" if value >= asked else "MISSED"
        lines.append(f"| {' / '.join(names)} | {asked:g} | {value:.2f} | {reached} |")
    return lines


def memory_variants() -> list[Variant]:
    """Return what the memory of a batch of ours is measured at."""
    usual = Variant(MAML_5)
    tasks = [usual._replace(tasks=TASKS * times) for times in (1, 2, 4)]
    heads = [usual._replace(hidden=(width, width)) for width in (256, 1024)]
    return [*tasks, *heads, usual._replace(items=100_000)]


def render(rows: Sequence[Row], timed: Timed, memory: Mapping[Variant, Growth]) -> str:
    """Return the tables of speed, bars and memory."""
    rates = ", ".join(f"{shape}: {rate / 1e9:.0f}" for shape, rate in timed.gemm.items())
    return f"""{timed.rounds} batches of {TASKS} tasks each, in turn; GFLOP/s of products {rates}.

| implementation | algorithm | order | steps | tasks/s | x learn2learn | of floor | MB | error |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(map(_line, rows))}

| of | at least | found | |
|---|---|---|---|
{chr(10).join(bars(rows))}

What a batch of {" ".join(map(str, MAML_5))} takes: peak over what the process held before, MB.

| tasks | head | items | events | touched rows | taken | a head a task | tables |
|---|---|---|---|---|---|---|---|
{chr(10).join(_memory_line(*one) for one in memory.items())}
"""


def _line(row: Row) -> str:
    share = "" if row.roofline_share is None else f"{row.roofline_share:.1%}"
    order = "first" if row.first_order else "second" if row.inner_steps else ""
    return (
        f"| {row.implementation} | {row.algorithm} | {order} | {row.inner_steps or ''} | "
        f"{row.tasks_per_s:.0f} | {row.ratio_to_learn2learn:.2f} | {share} | "
        f"{row.peak_rss_mb:.0f} | {row.max_rel_error:.0e} |"
    )


def _memory_line(at: Variant, found: Growth) -> str:
    head = " -> ".join(map(str, at.hidden))
    return (
        f"| {at.tasks} | {head} | {at.items:,} | {found.events:,} | {found.touched:,} | "
        f"{found.grown:.0f} | {found.copies:.0f} | {found.tables:.0f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
