"""From published numbers to `strict`: leave-last-out on MovieLens-1M beside what it leaves out.

    METAREC_DATA=DIR python benchmarks/bench_tables_bridge.py [--out DIR]

Reads the cells that bench_tables.py left in --out for `ml-1m-leave-last-out`, and those of
`ml-1m-strict` that are of the same learners. Copies of MovieLens-1M differ: some lack the
timestamps of a fifth of the ratings, so that the histories of some users have holes. Means are told
of all judged users and of those whose histories are whole, for whom the task is the published one.
Writes benchmarks/results/bridge_<hardware>_<date>.md.
"""

import argparse
import os
import sys
from pathlib import Path

import polars as pl
from bench_tables import PUBLISHED
from machine import write_result

from metarec_ray.data.datasets.by_name import DEFAULT_FOLDER
from metarec_ray.data.tasks.task_store import TaskStore

LEAKS, STRICT = "ml-1m-leave-last-out", "ml-1m-strict"
METRICS = {"NDCG@10": "ndcg@10", "HR@10": "hr@10", "MRR": "mrr"}


def main() -> int:
    """Write the result file; 1 if a table was not made yet."""
    parser = argparse.ArgumentParser(description="Leave-last-out beside strict.")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"), help="of the cells")
    out = parser.parse_args().out
    if not _cells(out, LEAKS):
        print(f"python benchmarks/bench_tables.py --only {LEAKS} comes first", file=sys.stderr)
        return 1
    whole = _whole_users(out)
    strict = [_strict(out)] if _cells(out, STRICT) else []  # its table may not be made yet
    text = "\n\n".join([_leaking(out, whole), PUBLISHED.strip(), *strict])
    command = "python benchmarks/bench_tables_bridge.py"
    write_result("bridge", "MovieLens-1M: from leave-last-out to strict", command, text)
    return 0


def _leaking(out: Path, whole: set[str]) -> str:
    lines = []
    for cell in _cells(out, LEAKS):
        values = pl.read_parquet(cell.with_suffix(".parquet"))
        for users, some in (
            ("all", values),
            ("whole histories", values.filter(pl.col("entity").is_in(list(whole)))),
        ):
            means = (f"{some[metric].mean():.4f}" for metric in METRICS.values())
            name, seed, _ = cell.stem.rsplit("-", 2)
            lines.append(f"| {name} | {seed} | {users} | {len(some)} | {' | '.join(means)} |")
    head = f"| method | seed | users | n | {' | '.join(METRICS)} |"
    rule = "|---|---|---|---:|" + "---:|" * len(METRICS)
    return (
        "## `leave_last_out`\n\nIt leaks time: other users' later events are trained on; not "
        "comparable with strict. Test events, looked at once.\n\n" + "\n".join([head, rule, *lines])
    )


def _strict(out: Path) -> str:
    methods = {cell.stem.rsplit("-", 2)[0] for cell in _cells(out, LEAKS)}
    seeds: dict[str, list[pl.DataFrame]] = {}
    for cell in _cells(out, STRICT):
        if (name := cell.stem.rsplit("-", 2)[0]) in methods:
            seeds.setdefault(name, []).append(pl.read_parquet(cell.with_suffix(".parquet")))
    means = {
        name: pl.concat(some).group_by("k").agg(pl.col("ndcg@10").mean()).sort("k")
        for name, some in seeds.items()
    }
    ks = sorted({k for found in means.values() for k in found["k"]})
    head = f"| method | seeds | {' | '.join(f'k = {k}' for k in ks)} |"
    rows = [
        f"| {name} | {len(seeds[name])} | {' | '.join(f'{v:.4f}' for v in found['ndcg@10'])} |"
        for name, found in means.items()
    ]
    return (
        "## `strict`\n\nRatings of 4 and more, users that training never saw, nothing after the "
        "cut in time, ten later positives to find: NDCG@10, test users, looked at once.\n\n"
        + "\n".join([head, "|---|---:|" + "---:|" * len(ks), *rows])
    )


def _cells(out: Path, name: str) -> list[Path]:
    return sorted((out / name / "bench" / "cells").glob("*.json"))


def _whole_users(out: Path) -> set[str]:
    """Return the task ids of users all of whose ratings have a timestamp."""
    folder = Path(os.environ.get("METAREC_DATA", DEFAULT_FOLDER))
    store = TaskStore.open(out / LEAKS / "run" / "store")
    log = pl.read_parquet(folder / "ml-1m" / "ratings.parquet")
    holes = log.filter(pl.col("timestamp").is_null())["user_id"].cast(pl.String).unique()
    ids = store.entity_ids()
    return {str(task) for task, name in enumerate(ids) if name not in set(holes.to_list())}


if __name__ == "__main__":
    sys.exit(main())
