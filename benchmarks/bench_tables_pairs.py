"""Two methods of a table beside each other: what one is above the other, at every k.

    python benchmarks/bench_tables_pairs.py TABLE METHOD:OTHER ... [--out DIR] [--metric NAME]

A table compares with its best rivals. This compares what one asks for, such as a second stage with
its own first stage, from the cells that bench_tables.py left in --out. The p values are those of
the tables (paired bootstrap over entities and seeds), corrected by Holm's method over all
differences of the page.
Writes benchmarks/results/pairs-<table>_<hardware>_<date>.md.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import polars as pl
import torch
from machine import write_result

from metarec_ray.evaluation.table.statistics import Sample, bootstrap, holm

RESAMPLES, SEED = 20_000, 0


class Difference(NamedTuple):
    """What `method` is above `other` at k events."""

    method: str
    other: str
    k: int
    mean: float
    low: float
    high: float
    p: float


def main() -> None:
    """Compare the pairs and write the result file."""
    parser = argparse.ArgumentParser(description="Compare two methods of a table at every k.")
    parser.add_argument("table", help="name of a table of bench_tables.py")
    parser.add_argument("pairs", nargs="+", metavar="METHOD:OTHER")
    parser.add_argument("--metric", default="ndcg@10")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"), help="of the cells")
    asked = parser.parse_args()
    cells = asked.out / asked.table / "bench" / "cells"
    found: list[Difference] = []
    for pair in asked.pairs:
        method, other = pair.split(":")
        found += differences(cells, method, other, asked.metric)
    lines = [
        f"| {one.method} | {one.other} | {one.k} | {one.mean:+.4f} "
        f"[{one.low:+.4f}, {one.high:+.4f}] | {one.p:.4f} | {corrected:.4f} |"
        for one, corrected in zip(found, holm([one.p for one in found]), strict=True)
    ]
    head = f"| method | other | k | {asked.metric}: method - other | p | p corrected |"
    rule = "|---|---|---:|---:|---:|---:|"
    command = f"bench_tables_pairs.py {asked.table} {' '.join(asked.pairs)}"
    write_result(
        f"pairs-{asked.table}",
        f"{asked.table}: pairs",
        f"python benchmarks/{command}",
        "\n".join([head, rule, *lines]),
    )


def differences(cells: Path, method: str, other: str, metric: str) -> list[Difference]:
    """Return the differences at every k, with 95 % intervals."""
    one, two = _samples(cells, method, metric), _samples(cells, other, metric)
    found = []
    for k in sorted(one.keys() & two.keys()):
        drawn = bootstrap([one[k], two[k]], resamples=RESAMPLES, seed=SEED)
        gaps = drawn.means[0] - drawn.means[1]
        low, high = gaps.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
        mean = one[k].mean() - two[k].mean()
        found.append(Difference(method, other, k, mean, low, high, drawn.p_value(0, 1)))
    return found


def _samples(cells: Path, method: str, metric: str) -> dict[int, Sample]:
    """Return the values of a method at every k, a row a seed."""
    rows: dict[int, dict[int, list[float]]] = {}
    for described in sorted(cells.glob(f"{method}-s*.json")):
        if described.stem.rsplit("-", 2)[0] != method:
            continue
        seed = json.loads(described.read_text("utf-8"))["seed"]
        values = pl.read_parquet(described.with_suffix(".parquet")).sort("k", "entity")
        for (k,), some in values.group_by("k", maintain_order=True):
            rows.setdefault(k, {})[seed] = some[metric].to_list()
    if not rows:
        raise SystemExit(f"a pair names methods of the table, {cells} has no cell of {method}")
    found = {}
    for k, seeds in rows.items():
        values = torch.tensor(list(seeds.values()))
        found[k] = Sample(values, torch.ones_like(values), tuple(seeds))
    return found


if __name__ == "__main__":
    main()
