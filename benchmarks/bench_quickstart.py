"""The quickstart's figures: the learner beside rivals and optimum, and the time it all takes.

    [METAREC_DATA=DIR] python benchmarks/bench_quickstart.py [--data synthetic|ml-1m]

Runs `metarec quickstart` in an empty folder and writes
benchmarks/results/quickstart-<data>_<hardware>_<date>.md; exit code 1 if a bar is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from machine import heading, result_path

from metarec_ray.evaluation.table.text import render

LIMIT_S = {"synthetic": 300, "ml-1m": 900}


def main() -> int:
    """Run, print the bars, write the result file; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description="Measure the quickstart.")
    parser.add_argument("--data", default="synthetic", help="what quickstart takes")
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "metarec_ray", "quickstart", "--data", data]
        done = subprocess.run([*command, "--out", str(out)], stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            return 1
        summary = json.loads((out / "summary.json").read_text("utf-8"))
    bars = judge(summary, data)
    lines = [
        f"| {bar.what} | {bar.asked} | {bar.found} | {'met' if bar.met else 'missed'} |"
        for bar in bars
    ]
    print("\n".join(lines))
    write(summary, data, lines)
    return 0 if all(bar.met for bar in bars) else 1


class Bar(NamedTuple):
    """What was asked, what came out."""

    what: str
    asked: str
    found: str
    met: bool


def judge(summary: dict, data: str) -> list[Bar]:
    """Return every bar of this data set."""
    rows = {(row["method"], row["k"]): row for row in summary["rows"]}
    learner, popular = rows[summary["learner"], 5], rows["popularity", 5]
    apart = learner["better"] or learner["ci95"][0] > popular["ci95"][1]
    above = learner["ndcg@10"] - popular["ndcg@10"]
    asked = "better than the best rival, or 95 % intervals apart"
    bars = [Bar("above popularity at k = 5", asked, f"{above:+.4f}", apart)]
    if data in LIMIT_S:
        limit, seconds = LIMIT_S[data], summary["seconds"]
        bars.append(Bar("seconds, all stages", f"<= {limit}", f"{seconds:.0f}", seconds <= limit))
    return bars + (_against_the_optimum(summary, rows) if summary["optimum"] else [])


def _against_the_optimum(summary: dict, rows: dict) -> list[Bar]:
    optimum, popular = summary["optimum"]["10"], rows["popularity", 10]["ndcg@10"]
    rival, rival_at_5 = (_best_rival(rows, k) for k in (10, 5))
    mine, mine_at_5 = (rows[summary["learner"], k]["ndcg@10"] for k in (10, 5))
    closed, users = (mine - popular) / (optimum - popular), rows["popularity", 10]["n"]
    ratios = [("popularity", optimum / popular, 2.0), ("best rival", optimum / rival, 1.2)]
    return [
        *(
            Bar(f"optimum / {name} at k = 10", f">= {limit:g}", f"{ratio:.2f}", ratio >= limit)
            for name, ratio, limit in ratios
        ),
        Bar("test users", ">= 1,000", f"{users:,}", users >= 1000),
        Bar(
            "gap popularity to optimum closed at k = 10", ">= 70 %", f"{closed:.0%}", closed >= 0.7
        ),
        Bar(
            "above the best rival at k = 5",
            "> 0",
            f"{mine_at_5 - rival_at_5:+.4f}",
            mine_at_5 > rival_at_5,
        ),
    ]


def _best_rival(rows: dict, k: int) -> float:
    rivals = [row for (_, at), row in rows.items() if at == k and row["kind"] == "rival"]
    return max(row["ndcg@10"] for row in rivals)


def write(summary: dict, data: str, lines: list[str]) -> None:
    """Write bars, table and times."""
    head = heading(f"Quickstart, {data}", f"python benchmarks/bench_quickstart.py --data {data}")
    values = next(t for t in summary["sweep"]["trials"] if t["values"] == _best(summary))["values"]
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary["stages"].items())
    text = (
        f"{head}\n| bar | asked | found | |\n|---|---|---|---|\n"
        + "\n".join(lines)
        + f"\n\nStages: {stages}; {summary['seconds']:.0f} s in all.\n\n"
        f"Chosen by the sweep on validation users: {json.dumps(values)}\n\n"
        f"```\n{render(summary['rows'])}\n```\n"
    )
    result_path(f"quickstart-{data}").write_text(text, "utf-8")


def _best(summary: dict) -> dict:
    sweep = summary["sweep"]
    finished = [trial for trial in sweep["trials"] if trial[sweep["metric"]] is not None]
    pick = max if sweep["mode"] == "max" else min
    return pick(finished, key=lambda trial: trial[sweep["metric"]])["values"]


if __name__ == "__main__":
    sys.exit(main())
