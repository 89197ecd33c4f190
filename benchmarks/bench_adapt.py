"""Measure what a request costs: adapt to ten ratings, rank a catalogue; ours beside naive loops.

    python -m benchmarks.bench_adapt [--json] [--quick]

One process, one torch thread, CPU time, the implementations in turn, each for a stretch of requests
as a server has them. Without --json, writes benchmarks/results/adapt_<hardware>_<date>.md.

==============  =================================================================================
ours            bounds of all in low precision, those that matter scored in float32
ours_x16        the same for sixteen requests at once, time of one
exact           every item in float32
naive_vectors   autograd, then every item through the network, by vectors that are made before
naive           the same, and the vectors of the catalogue are looked up in every request
==============  =================================================================================
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch

from benchmarks.adapt_work import MODELS, PLACES, Model, Naive, predictor, requests
from benchmarks.machine import write_result
from benchmarks.train_work import World, world
from metarec_ray.inference.catalogue_scores import OfHead
from metarec_ray.inference.retrieval import Best, Retriever
from metarec_ray.inference.supports import Supports

TITLE = "Adapting and ranking on one core, beside naive loops"
REQUESTS, TOGETHER = 64, 16
ROUNDING = 1e-5  # of a score: what float32 itself leaves open
SHARE = 0.999


Rank = Callable[[Supports], object]


class Effort(NamedTuple):
    """How much is measured."""

    rounds: int
    stretch: int  # requests of ours a round
    lists: int  # that are compared with float32's


class Case(NamedTuple):
    """One line of the table."""

    implementation: str
    algorithm: str


class Row(NamedTuple):
    """Milliseconds of a request."""

    implementation: str
    algorithm: str
    n_items: int
    p50_ms: float
    p99_ms: float
    ratio_to_naive: float


class Agreement(NamedTuple):
    """How often a ranking is float32's, and how often a shortlist was enough for it."""

    algorithm: str
    n_items: int
    same: float
    certain: float
    low: bool


QUICK = {3_706: Effort(8, 16, 32), 100_000: Effort(8, 16, 32)}
FULL = {3_706: Effort(25, 40, 1000), 100_000: Effort(25, 40, 1000), 1_000_000: Effort(2, 20, 8)}
NAIVE = Case("naive", "maml_two_layers")
BARS = (  # at 100,000 items: at most, of ratios at least
    ("bayesian_head", "p50_ms", 1.3),
    ("bayesian_head", "p99_ms", 2.0),
    ("bayesian_head", "ratio_to_naive", 100.0),
    ("maml_two_layers", "p50_ms", 11.0),
    ("maml_two_layers", "ratio_to_naive", 12.0),
)


def main() -> int:
    """Measure, print, write the result file; 1 if a ranking is not float32's."""
    parser = argparse.ArgumentParser(description="Measure what a request costs.")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")
    parser.add_argument("--quick", action="store_true", help="fewer requests: within a minute")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    effort = QUICK if arguments.quick else FULL
    measured = [measure(*each) for each in effort.items()]
    rows = [row for found, _ in measured for row in found]
    agreements = [one for _, found in measured for one in found]
    if arguments.json:
        tables = {"rows": rows, "agreement": agreements}
        print(json.dumps({name: [x._asdict() for x in table] for name, table in tables.items()}))
    else:
        text = render(rows, agreements)
        print(text)
        if not arguments.quick:
            write_result("adapt", TITLE, "python -m benchmarks.bench_adapt", text)
    return int(not all(one.same >= SHARE for one in agreements))


def measure(items: int, effort: Effort) -> tuple[list[Row], list[Agreement]]:
    """Return the rows and the agreement with float32 of one catalogue."""
    of = world(items)
    naive = Naive(of)
    vectors = naive.lookups()
    ranks: dict[Case, Rank] = {
        NAIVE: lambda one: naive.rank(one, naive.lookups()),
        NAIVE._replace(implementation="naive_vectors"): lambda one: naive.rank(one, vectors),
    }
    agreements: list[Agreement] = []
    for model in MODELS:
        ours, exact = finders(of, model)
        agreements.append(agreement(of, model, ours, exact, effort.lists))
        ranks |= {
            Case("ours", model.name): partial(best, ours),
            Case("ours_x16", model.name): partial(best, ours),
            Case("exact", model.name): partial(best, exact),
        }
    times = in_turn(ranks, requests(of, REQUESTS, seed=7), effort)
    return as_rows(times, items), agreements


def finders(of: World, model: Model) -> tuple[Retriever, Retriever]:
    """Return what is served, and the same without a shortlist."""
    served = predictor(of, model)
    items = len(of.features.tokens)
    everything = torch.ones(items, dtype=torch.bool), torch.arange(items)
    exact = Retriever(served, *everything)
    exact.scorer = None
    return Retriever(served, *everything), exact


def best(retriever: Retriever, asked: Supports) -> list[Best]:
    """Return the rankings of requests."""
    return retriever.best(asked, PLACES, exclude_seen=True)


def agreement(of: World, model: Model, ours: Retriever, exact: Retriever, lists: int) -> Agreement:
    """Compare `lists` rankings of ours with those of float32."""
    same = certain = count = 0
    while count < lists:
        asked = requests(of, min(TOGETHER, lists - count), seed=100 + count)
        pairs = zip(best(ours, asked), best(exact, asked), strict=True)
        same += sum(torch.allclose(*(one.scores for one in pair), rtol=ROUNDING) for pair in pairs)
        certain += len(ours.shortlisted(asked, PLACES, exclude_seen=True))
        count += len(asked.item)
    low = isinstance(ours.scorer, OfHead) and ours.scorer.bounded.low
    return Agreement(model.name, len(ours.by_id), same / count, certain / count, low)


def in_turn(ranks: Mapping[Case, Rank], asked: Supports, effort: Effort) -> dict[Case, list[float]]:
    """Return milliseconds a request, of one stretch after another."""
    times: dict[Case, list[float]] = {case: [] for case in ranks}
    gc.collect()
    gc.freeze()  # or a collection walks all of torch, in whose turn it happens to fall
    for turn in range(effort.rounds):
        for case, rank in ranks.items():
            size = TOGETHER if case.implementation == "ours_x16" else 1
            stretch = effort.stretch if case.implementation == "ours" else 2
            # The first of a stretch finds the caches of whoever was before.
            for at in range(stretch + 1):
                some = torch.arange(size) + (turn * stretch + at) * size
                one = asked.at(some % REQUESTS)
                started = time.process_time()
                rank(one)
                if at:
                    times[case].append((time.process_time() - started) * 1e3 / size)
    return times


def as_rows(times: Mapping[Case, Sequence[float]], items: int) -> list[Row]:
    """Return the rows of a table."""
    naive = quantile(times[NAIVE], 0.5)
    return [
        Row(*case, items, quantile(found, 0.5), quantile(found, 0.99), naive / quantile(found, 0.5))
        for case, found in times.items()
    ]


def quantile(values: Sequence[float], q: float) -> float:
    """Return the value that a share q of them does not pass."""
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


def bars(rows: Sequence[Row]) -> list[str]:
    """Return what was asked and what was found, as lines of a table."""
    lines = []
    for algorithm, name, asked in BARS:
        found = next(x for x in rows if x[:3] == ("ours", algorithm, 100_000))._asdict()[name]
        missed = found < asked if name == "ratio_to_naive" else found > asked
        lines.append(f"| {algorithm} | {name} | {asked:g} | {found:.2f} | {'MISSED' * missed} |")
    return lines


def render(rows: Sequence[Row], agreements: Sequence[Agreement]) -> str:
    """Return the tables of times, bars and agreement."""
    times = [
        f"| {x.implementation} | {x.algorithm} | {x.n_items:,} | {x.p50_ms:.3f} | {x.p99_ms:.3f} | "
        f"{x.ratio_to_naive:.1f} |"
        for x in rows
    ]
    lists = [
        f"| {x.algorithm} | {x.n_items:,} | {x.same:.4f} | {x.certain:.4f} | "
        f"{'8 bits' if x.low else 'float32'} |"
        for x in agreements
    ]
    return f"""CPU milliseconds of a request; p99 of few naive ones is their slowest.

| implementation | algorithm | items | p50 | p99 | x naive |
|---|---|---|---|---|---|
{chr(10).join(times)}

| at 100,000 items | | asked | found | |
|---|---|---|---|---|
{chr(10).join(bars(rows))}

Shares of rankings that are float32's, and of shortlists that were certain to hold the ranking;
where one is not, everything is scored. Bounds are of products of 8-bit integers or of float32 with
items' vectors; hidden layers are in float32.

| algorithm | items | same | certain | products |
|---|---|---|---|---|
{chr(10).join(lists)}
"""


if __name__ == "__main__":
    sys.exit(main())
