"""Measure what the best of a catalogue cost: of one head, and of the quickstart's default blend.

    python -m benchmarks.bench_retrieval [--json] [--quick]

One process, one torch thread, CPU time; ours and scoring everything take turns. The blend is what
`metarec quickstart` makes of positives where items are many: `bayesian_head` and `ials`. Catalogues
are random, or uneven as trained ones are: columns and items differ in size by orders of magnitude.
Without --json, writes benchmarks/results/retrieval_<hardware>_<date>.md.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.adapt_work import Model, predictor, requests
from benchmarks.bench_adapt import quantile
from benchmarks.machine import write_result
from benchmarks.train_work import World, world
from metarec_ray.algorithms.closed_form.bayesian import BayesianHead
from metarec_ray.algorithms.rivals.als import IAls
from metarec_ray.inference.predictor import Blend, Predictor
from metarec_ray.inference.retrieval import Retriever
from metarec_ray.inference.single import Fitted
from metarec_ray.inference.supports import Supports

TITLE = "The best of a catalogue on one core: one head, and the quickstart's default blend"
ITEMS, PLACES, FACTORS = (100_000, 1_000_000), (10, 100), 64
USER_TOKENS = 200


class Row(NamedTuple):
    """CPU milliseconds of a request, and how many shortlists were certain."""

    predictor: str
    catalogue: str
    n_items: int
    places: int
    p50_ms: float
    p99_ms: float
    everything_p50_ms: float
    certain: float


def main() -> int:
    """Measure, print, write the result file; 1 if a list is not that of scoring everything."""
    parser = argparse.ArgumentParser(description="Measure what the best of a catalogue cost.")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")
    parser.add_argument("--quick", action="store_true", help="fewer requests: within a minute")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    count = 20 if arguments.quick else 100
    rows = [row for items in ITEMS for row in measure(items, count)]
    if arguments.json:
        print(json.dumps([row._asdict() for row in rows]))
    else:
        text = render(rows)
        print(text)
        if not arguments.quick:
            write_result("retrieval", TITLE, "python -m benchmarks.bench_retrieval", text)
    return 0


def measure(items: int, count: int) -> Iterator[Row]:
    """Yield the rows of catalogues of so many items, `count` requests each."""
    of = world(items)
    asked = requests(of, count, seed=7)
    for catalogue in ("random", "uneven"):
        for name, served in predictors(of, uneven=catalogue == "uneven").items():
            for places in PLACES:
                yield Row(name, catalogue, items, places, *_times(served, items, asked, places))


def predictors(of: World, *, uneven: bool) -> dict[str, Predictor]:
    """Return a head for ratings, one for positives, and the latter in a blend with factors."""
    items = len(of.features.tokens)
    ratings, positives = (
        predictor(of, Model("bayesian_head", BayesianHead(), (), feedback))
        for feedback in ("explicit", "implicit")
    )
    generator = torch.Generator().manual_seed(5)
    factors = 0.1 * torch.randn(items, FACTORS, generator=generator)
    if uneven:
        factors = _uneven(factors)
        for made in (ratings, positives):
            made.items = made.items._replace(vector=_uneven(made.items.vector))
            made.reference = made.items.at(made.reference.index)
    count = torch.empty(items).exponential_(generator=generator) * 50
    table = {"item": factors, "gram": factors.T @ factors, "count": count}
    ials = Fitted(IAls(factors=FACTORS), table, "implicit", n_items=items, user_tokens=USER_TOKENS)
    # A member's share to the power of its sharpness, times its weight.
    weights = torch.tensor([[1.2, 0.9]])
    blend = Blend([positives, ials], weights, torch.tensor([0]), "implicit")
    return {"bayesian_head, ratings": ratings, "bayesian_head": positives, "default blend": blend}


def _uneven(vectors: Tensor) -> Tensor:
    """Return vectors turned, with a few large directions and long items, and a common part."""
    generator = torch.Generator().manual_seed(6)
    rows, columns = vectors.shape
    turn = torch.linalg.qr(torch.randn(columns, columns, generator=generator)).Q
    length = torch.exp(0.7 * torch.randn(rows, 1, generator=generator))
    size = torch.logspace(0.5, -1.5, columns)
    common = torch.randn(columns, generator=generator) * vectors.std()
    return (vectors * size) @ turn * length + common


def _times(
    served: Predictor, items: int, asked: Supports, places: int
) -> tuple[float, float, float, float]:
    """Return p50 and p99 of ours, p50 of scoring everything, and the share that was certain."""
    every = torch.ones(items, dtype=torch.bool), torch.arange(items)
    ours, whole = Retriever(served, *every), Retriever(served, *every)
    whole.scorer = None
    found: list[float] = []
    all_found: list[float] = []
    certain = 0
    gc.collect()
    gc.freeze()  # or a collection walks all of torch, in whose turn it happens to fall
    for task in range(len(asked.item)):
        one = asked.at(torch.tensor([task]))
        if task % 20 == 0:
            ours.best(one, places, exclude_seen=True)  # makes what is made once, finds caches
        started = time.process_time()
        (best,) = ours.best(one, places, exclude_seen=True)
        found.append((time.process_time() - started) * 1e3)
        if task % 10 == 0:
            certain += len(ours.shortlisted(one, places, exclude_seen=True))
            started = time.process_time()
            (right,) = whole.best(one, places, exclude_seen=True)
            all_found.append((time.process_time() - started) * 1e3)
            torch.testing.assert_close(best.scores, right.scores, rtol=1e-5, atol=1e-5)
    share = certain / len(all_found)
    return quantile(found, 0.5), quantile(found, 0.99), quantile(all_found, 0.5), share


def render(rows: list[Row]) -> str:
    """Return the table."""
    lines = [
        f"| {x.predictor} | {x.catalogue} | {x.n_items:,} | {x.places} | {x.p50_ms:.2f} | "
        f"{x.p99_ms:.2f} | {x.everything_p50_ms:.2f} | {x.certain:.3f} |"
        for x in rows
    ]
    return f"""CPU milliseconds of a request with ten events; the last column is the share of
shortlists that were certain to hold the list, where all items need not be scored. Every list that
was compared, one in ten, is that of scoring everything.

| predictor | catalogue | items | places | p50 | p99 | everything, p50 | certain |
|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}
"""


if __name__ == "__main__":
    sys.exit(main())
