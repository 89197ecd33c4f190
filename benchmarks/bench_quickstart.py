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

from machine import heading, result_path

from metarec_ray.evaluation.render import render

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
        f"| {name} | {bar} | {found} | {'met' if met else 'missed'} |"
        for name, bar, found, met in bars
    ]
    print("\n".join(lines))
    write(summary, data, lines)
    return 0 if all(met for *_, met in bars) else 1


def judge(summary: dict, data: str) -> list[tuple[str, str, str, bool]]:
    """Return (what, bar, found, whether it is met) for every bar of this data set."""
    rows = {(row["method"], row["k"]): row for row in summary["rows"]}
    ndcg = {key: row["ndcg@10"] for key, row in rows.items()}
    learner = summary["learner"]
    k5 = rows[learner, 5]
    low = ndcg[learner, 5] - ndcg["popularity", 5]
    bars = [
        (
            "above popularity at k = 5",
            "better than the best rival, or 95 % intervals apart",
            f"{low:+.4f}",
            k5["better"] or k5["ci95"][0] > rows["popularity", 5]["ci95"][1],
        )
    ]
    if data in LIMIT_S:
        seconds = summary["seconds"]
        bars.append(
            (
                "seconds, all stages",
                f"<= {LIMIT_S[data]}",
                f"{seconds:.0f}",
                seconds <= LIMIT_S[data],
            )
        )
    if summary["optimum"]:
        best = {
            k: max(
                v for (name, at), v in ndcg.items() if at == k and rows[name, at]["kind"] == "rival"
            )
            for k in (5, 10)
        }
        optimum, popular = summary["optimum"]["10"], ndcg["popularity", 10]
        closed = (ndcg[learner, 10] - popular) / (optimum - popular)
        bars += [
            (
                "optimum / popularity at k = 10",
                ">= 2",
                f"{optimum / popular:.2f}",
                optimum >= 2 * popular,
            ),
            (
                "optimum / best rival at k = 10",
                ">= 1.2",
                f"{optimum / best[10]:.2f}",
                optimum >= 1.2 * best[10],
            ),
            ("test users", ">= 1,000", f"{k5['n']:,}", k5["n"] >= 1000),
            (
                "share of the gap popularity to optimum closed at k = 10",
                ">= 70 %",
                f"{closed:.0%}",
                closed >= 0.7,
            ),
            (
                "above the best rival at k = 5",
                "> 0",
                f"{ndcg[learner, 5] - best[5]:+.4f}",
                ndcg[learner, 5] > best[5],
            ),
        ]
    return bars


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
