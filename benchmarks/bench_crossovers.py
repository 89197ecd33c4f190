"""Where one way of computing the same becomes faster than another: writes one result file.

    python -m benchmarks.bench_crossovers

What the ways of `models/towers.py` and `training/optimizer.py` were chosen by. One
thread, CPU time, the median of repetitions, forward and backward where there is a gradient.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from torch.optim.adamw import adamw

from benchmarks.machine import write_result
from metarec_ray.training.process import set_up

ENTITIES, DIM, REPETITIONS = 1100, 128, 25
TABLES = (3_706, 10_000, 20_000, 100_000)
BAGS = ((31, 7), (128, 7), (256, 7), (500, 7), (12_000, 60))  # rows of a table, longest bag


def main() -> None:
    """Measure and write the tables."""
    set_up(torch.device("cpu"))
    torch.manual_seed(0)
    lines = [
        f"Milliseconds. {ENTITIES:,} entities, {DIM} dimensions.",
        "",
        "| AdamW on a table of | touched rows | all rows |",
        "|---|---|---|",
        *(f"| {rows:,} | {touched(rows):.2f} | {whole(rows):.2f} |" for rows in TABLES),
        "",
        "| bags of a table of | padded look-up | values and offsets | matrix product |",
        "|---|---|---|---|",
        *(bags(tokens, longest) for tokens, longest in BAGS),
        "",
        "| rows times a vector of their task | a batch of products | sums |",
        "|---|---|---|",
        *(products(tasks, rows, width) for tasks, rows, width in ((16, 88, 128), (32, 10, 32))),
    ]
    text = "\n".join(lines)
    write_result("crossovers", "Crossovers", "python -m benchmarks.bench_crossovers", text)
    print(text)


def median_ms(work: Callable[[], object]) -> float:
    """Return the median CPU milliseconds of `work`."""
    spent = []
    for repetition in range(-3, REPETITIONS):
        started = time.process_time()
        work()
        if repetition >= 0:
            spent.append(1000 * (time.process_time() - started))
    return statistics.median(spent)


def update(value: Tensor, gradient: Tensor, m: Tensor, v: Tensor) -> None:
    """Take one step of fused AdamW in place."""
    adamw(
        [value],
        [gradient],
        [m],
        [v],
        [],
        [torch.tensor(1.0)],
        fused=True,
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=1e-3,
        weight_decay=0.0,
        eps=1e-8,
        maximize=False,
    )


def touched(size: int) -> float:
    """Return what updating the touched rows of a table costs."""
    table = [torch.randn(size, DIM), torch.zeros(size, DIM), torch.zeros(size, DIM)]
    rows = torch.randperm(size)[:ENTITIES].sort().values
    gradient = torch.randn(ENTITIES, DIM)

    def work() -> None:
        value, m, v = (part.index_select(0, rows) for part in table)
        update(value, gradient, m, v)
        for part, changed in zip(table, (value, m, v), strict=True):
            part.index_copy_(0, rows, changed)

    return median_ms(work)


def whole(size: int) -> float:
    """Return what updating all rows of a table costs, the dense gradient included."""
    value, m, v = torch.randn(size, DIM), torch.zeros(size, DIM), torch.zeros(size, DIM)
    rows = torch.randperm(size)[:ENTITIES].sort().values
    gradient = torch.randn(ENTITIES, DIM)
    return median_ms(
        lambda: update(value, torch.zeros(size, DIM).index_copy_(0, rows, gradient), m, v)
    )


def bags(tokens: int, longest: int) -> str:
    """Return the line of a token table."""
    table = torch.randn(tokens, DIM, requires_grad=True)
    count = torch.randint(1, 1 + longest // 2, (ENTITIES, 1))
    real = torch.arange(longest) < count
    index = torch.randint(1, tokens, (ENTITIES, longest)) * real
    weight, up = real.float(), torch.randn(ENTITIES, DIM)

    def padded() -> Tensor:
        return (table[index] * weight.unsqueeze(-1)).sum(-2)

    def by_offsets() -> Tensor:
        sizes = real.sum(1)
        return embedding_bag(
            index[real], table, sizes.cumsum(0) - sizes, per_sample_weights=weight[real], mode="sum"
        )

    def by_matrix() -> Tensor:
        return torch.zeros(ENTITIES, tokens).scatter_add_(1, index, weight) @ table

    ways = (padded, by_offsets, by_matrix)
    times = [median_ms(lambda way=way: torch.autograd.grad(way(), table, up)) for way in ways]
    return f"| {tokens:,} | " + " | ".join(f"{spent:.2f}" for spent in times) + " |"


def products(tasks: int, rows: int, width: int) -> str:
    """Return the line of a shape."""
    x = torch.randn(tasks, rows, width, requires_grad=True)
    v = torch.randn(tasks, width, requires_grad=True)
    up = torch.randn(tasks, rows)
    batch = median_ms(lambda: torch.autograd.grad((x @ v.unsqueeze(-1)).squeeze(-1), (x, v), up))
    sums = median_ms(lambda: torch.autograd.grad((x * v.unsqueeze(-2)).sum(-1), (x, v), up))
    return f"| {tasks} x {rows} x {width} | {batch:.2f} | {sums:.2f} |"


if __name__ == "__main__":
    sys.exit(main())
