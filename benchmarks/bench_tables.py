"""The tables of every protocol: learners beside tuned rivals, on real data.

    METAREC_DATA=DIR python benchmarks/bench_tables.py [--only NAME] [--seeds N] [--out DIR]

Writes benchmarks/results/tables/NAME.md and NAME.json for each name of `TABLES`; hours for all of
them. The same command resumes: finished cells are kept in --out.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from machine import RESULTS, heading

ROOT = Path(__file__).parent.parent


class Table(NamedTuple):
    """One call of `metarec bench`.

    Attributes:
        config: file in jobs/configs.
        protocol: as `--protocol` takes it.
        learners: as `--learners` takes them; None for all that suit, beside floors and rivals.
        options: as `--set` takes them.
        seeds: as `--seeds` takes them; None for `--seeds` of this script.
        note: Markdown below the table: what belongs beside it and was not measured here.

    """

    config: str
    protocol: str
    learners: str | None = None
    options: tuple[str, ...] = ()
    seeds: int | None = None
    note: str = ""


HEADS = "user_item_bias,mf_fold_in,content_ridge,eb_ridge,variational_bayes,gp_head"
BESIDE = (
    "random,popularity,recency_popularity,item_knn,ease,item_knn_popularity,ease_popularity,"
    "sequence_neighbours,blend_of_rivals,windowed_ridge,blend,second_stage"
)
SHOPS = (  # of 28,000 items: all learners would take two hours
    "random,popularity,maml,fomaml,bayesian_head,prototype,prototype_joint,prototype_averaged,"
    "prototype_periods,prototype_food,prototype_kitchen"
)
PUBLISHED = """
## Published, not measured here

MovieLens-1M, leave-last-out: Zhai et al., 2024, arXiv:2402.17152, Table 4.

| method | HR@10 | NDCG@10 |
|---|---:|---:|
| SASRec, sampled softmax | .2853 | .1603 |
| HSTU | .3097 | .1720 |
| HSTU-large | .3294 | .1893 |
"""
TABLES = {
    "ml-1m-strict": Table("ml-1m-strict.yaml", "strict"),
    "ml-1m-strict-support-masked": Table(
        "ml-1m-strict.yaml", "strict", BESIDE, ("evaluate.mask=support",)
    ),
    "ml-1m-strict-shuffled": Table("ml-1m-strict.yaml", "strict", BESIDE, ("data.ties=shuffled",)),
    "ml-1m-strict-clean": Table(
        "ml-1m-strict.yaml", "strict", BESIDE, ("evaluate.boundary=clean",)
    ),
    "ml-latest-small-strict": Table("ml-latest-small-strict.yaml", "strict"),
    "ml-1m-leave-last-out": Table(
        "ml-1m-leave-last-out.yaml",
        "leave_last_out",
        "random,popularity,item_knn,ease,windowed_ridge,transformer,sasrec",
        note=PUBLISHED,
    ),
    "ml-1m-melu": Table("ml-1m-melu.yaml", "melu"),
    "ml-1m-melu-heads": Table("ml-1m-melu.yaml", "melu", f"constant,{HEADS},gp_head_cold", seeds=3),
    "ml-1m-melu-regime-a": Table("ml-1m-melu-maml.yaml", "melu", f"constant,{HEADS},maml", seeds=3),
    "ml-1m-item-kshot": Table("ml-1m-item-kshot.yaml", "item_kshot"),
    "ml-1m-item-kshot-heads": Table(
        "ml-1m-item-kshot.yaml", "item_kshot", f"constant,{HEADS}", seeds=3
    ),
    "amazon-cross-domain": Table("amazon-cross-domain.yaml", "cross_domain", SHOPS),
}


def main() -> int:
    """Make the tables that are asked for; the worst exit code of their benches."""
    parser = argparse.ArgumentParser(description="Make the tables of every protocol.")
    parser.add_argument("--only", action="append", choices=list(TABLES), help="repeatable")
    parser.add_argument("--learners", help="names, instead of the table's own")
    parser.add_argument("--seeds", type=int, help="fits of a stochastic learner")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"), help="for the cells")
    arguments = parser.parse_args()
    worst = 0
    for name in arguments.only or TABLES:
        table = TABLES[name]
        if arguments.learners:
            table = table._replace(learners=arguments.learners)
        seeds = table.seeds or arguments.seeds
        worst = max(worst, make(name, table, arguments.out / name, seeds))
    return worst


def make(name: str, table: Table, out: Path, seeds: int | None) -> int:
    """Run one bench and copy its table beside the other results; its exit code."""
    words = ["metarec", "bench", f"jobs/configs/{table.config}", "--protocol", table.protocol]
    words += ["--learners", table.learners, "--alone"] if table.learners else []
    words += ["--seeds", str(seeds)] if seeds else []
    words += [word for option in table.options for word in ("--set", option)]
    run = ["--out", str(out / "bench"), "--set", f"run.dir={out / 'run'}"]
    executable = str(Path(sys.executable).parent / words[0])
    done = subprocess.run([executable, *words[1:], *run], cwd=ROOT, check=False)
    found = ROOT / out / "bench" / "results.json"
    if not found.is_file():
        return done.returncode or 1
    folder = RESULTS / "tables"
    folder.mkdir(exist_ok=True)
    rows = json.loads(found.read_text("utf-8"))["rows"]
    (folder / f"{name}.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n", "utf-8")
    head = heading(name, " ".join(words), ("torch", "polars", "ray"))
    body = found.with_suffix(".md").read_text("utf-8")
    (folder / f"{name}.md").write_text(f"{head}\n{body}{table.note}", "utf-8")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
