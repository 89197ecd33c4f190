"""A made-up run that holds everything a report shows, shared by the tests of this folder."""

import json
import re
from pathlib import Path

from metarec_ray.report.run import Run, read_run

KS = (0, 1, 3, 5, 10)
SCORES = {
    "random": ("floor", (0.011, 0.011, 0.011, 0.011, 0.011)),
    "popularity": ("rival", (0.081, 0.080, 0.078, 0.077, 0.075)),
    "recency_popularity": ("rival", (0.084, 0.083, 0.081, 0.080, 0.079)),
    "item_knn": ("rival", (0.011, 0.060, 0.098, 0.121, 0.149)),
    "ease": ("rival", (0.011, 0.071, 0.104, 0.126, 0.152)),
    "user_item_bias": ("rival", (0.079, 0.079, 0.080, 0.081, 0.081)),
    "windowed_ridge": ("learner", (0.080, 0.098, 0.131, 0.153, 0.180)),
    "bayesian_head": ("learner", (0.083, 0.108, 0.145, 0.171, 0.205)),
}
P_CORRECTED = {0: 0.61, 1: 0.0004, 3: 0.0004, 5: 0.0004, 10: 0.0004}
OPTIMUM = {0: 0.100, 1: 0.127, 3: 0.165, 5: 0.190, 10: 0.230}


def row(method: str, k: int, **changes: object) -> dict[str, object]:
    kind, scores = SCORES[method]
    value = scores[KS.index(k)]
    rivals = {name: of[KS.index(k)] for name, (kind, of) in SCORES.items() if kind == "rival"}
    best = max(rivals, key=lambda name: rivals[name])
    learner = kind == "learner"
    p = P_CORRECTED[k] if learner else None
    return {
        "protocol": "strict",
        "dataset": "synthetic",
        "feedback": "implicit",
        "seed": 0,
        "method": method,
        "kind": kind,
        "k": k,
        "n": 1280,
        "ndcg@10": value,
        "hr@10": 3 * value,
        "recall@10": value / 2,
        "recall@50": 2 * value,
        "coverage@10": 0.61,
        "novelty": 6.25,
        "ci95": [value - 0.006, value + 0.006],
        "p_vs_best_rival": None if method == best else 0.0002,
        "p_corrected": p,
        "best_rival": best,
        "n_for_5_percent": None if method == best else 5_120,
        "better": learner and value > rivals[best] and P_CORRECTED[k] < 0.05,
        "chance": kind == "rival" and value < 0.02,
        "adaptation_gain": value - scores[0],
        "adapt_ms": 0.031,
        "seconds": 1.7,
        **changes,
    }


def rows() -> list[dict[str, object]]:
    return [row(method, k) for method in SCORES for k in KS]


def film(i: int) -> dict[str, object]:
    names = (
        "Alien",
        "Brazil",
        "Casablanca",
        "Dune",
        "Eraserhead",
        "Fargo: the Long Version",
        "Gilda",
    )
    return {"id": f"m{i}", "title": f"{names[i % 7]} ({1950 + i})", "score": 1 - i / 100}


def steps() -> list[dict[str, object]]:
    lists = ((0, 1, 2, 3, 4, 5), (1, 7, 0, 5, 8, 2), (7, 9, 1, 10, 5, 0), (9, 11, 7, 12, 10, 5))
    clicked = (None, film(6), film(13), film(20))
    return [
        {"clicked": click, "items": [film(i) for i in shown], "took_ms": 2.4}
        for click, shown in zip(clicked, lists, strict=True)
    ]


def sweep() -> dict[str, object]:
    trials = [
        {
            "values": {"algorithm.inner_lr": 10 ** (-3 + i / 4), "train.outer_lr": 0.003 * (1 + i)},
            "step": 200 if i % 3 else 50,
            "query_ndcg@10": None if i == 7 else 0.14 + 0.01 * i - 0.001 * i * i,
        }
        for i in range(12)
    ]
    return {"metric": "query_ndcg@10", "mode": "max", "trials": trials}


def summary() -> dict[str, object]:
    return {
        "dataset": "synthetic",
        "feedback": "implicit",
        "learner": "bayesian_head",
        "seed": 0,
        "data": {
            "rows_in": 179_200,
            "kept": 176_000,
            "filtered": 2_000,
            "collapsed": 1_100,
            "quarantined": {"label is NaN": 60, "time is missing": 40},
            "tasks": 6_400,
            "events": 176_000,
            "items": 1_000,
            "parts": {"train": 4_608, "valid": 512, "test": 1_280},
            "cutoff": 86_400_000_000,
        },
        "rows": rows(),
        "optimum": {str(k): value for k, value in OPTIMUM.items()},
        "stages": {"prepare": 9.4, "tune": 61.0, "train": 83.5, "evaluate": 22.1, "serve": 12.8},
        "sweep": sweep(),
        "example": {
            "user": "u6213",
            "fields": {"age": "25-34", "country": "NL"},
            "steps": steps(),
            "liked_later": [film(9), film(11), film(40)],
        },
        "checkpoint": "checkpoints/step-600",
        "parameters_sha256": "ab" * 32,
        "commands": [
            "metarec prepare runs/quickstart/config.yaml",
            "metarec train runs/quickstart/best.yaml --set train.num_workers=2",
            "metarec evaluate runs/quickstart/checkpoints/latest --protocol strict --json",
        ],
        "versions": {"python": "3.11.2", "ray": "2.60.0", "torch": "2.13.0"},
        "seconds": 189.2,
        "created_at": "2026-01-02T03:04:05+00:00",
    }


def metrics() -> str:
    lines = [
        {
            "step": step,
            "steps": 600,
            "query_loss": 6.9 - 1.2 * (1 - 0.99**step),
            "query_ndcg@10": 0.05 + 0.12 * (1 - 0.99**step),
            "tasks_per_s": 1150.0 + step % 70,
            "outer_lr": 0.01,
        }
        for step in range(10, 601, 10)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def write_run(folder: Path, found: dict[str, object]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(found))
    (folder / "metrics.jsonl").write_text(metrics())
    return folder


def made_run(folder: Path, **changes: object) -> Run:
    """Return the run that holds everything, with other fields of its summary."""
    return read_run(write_run(folder, {**summary(), **changes}))


def evaluated_run(folder: Path, found: list[dict[str, object]]) -> Run:
    """Return a run that holds rows of a table and nothing else."""
    (folder / "evaluation.json").write_text(json.dumps({"rows": found}))
    return read_run(folder)


def words(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page))


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)
