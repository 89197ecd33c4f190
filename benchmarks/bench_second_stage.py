"""What a learned second stage is worth, on new users of MovieLens-1M, and what it costs.

    METAREC_DATA=DIR python -m benchmarks.bench_second_stage [--seeds N] [--ties shuffled]

Fits the second stages of jobs/configs/ml-1m-strict.yaml in this process and judges each on the test
users of `strict`, beside its own first stage and untuned rivals. With --ties shuffled the order
inside a second is drawn anew, in training and test. A request is timed on one thread, adapting
included. Writes benchmarks/results/second-stage[-shuffled]_<hardware>_<date>.md; minutes a seed.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.bench_adapt import quantile
from benchmarks.machine import write_result
from metarec_ray.algorithms.base import Fitting
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment, load, override
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.bench.lineup import lineup
from metarec_ray.evaluation.bench.protocols import Candidate, Opened, open_protocol
from metarec_ray.evaluation.second_stage.fit import fit_experiment
from metarec_ray.evaluation.table import ranking_text
from metarec_ray.evaluation.table.ranking_measures import Measured
from metarec_ray.evaluation.table.rows import Header, judge
from metarec_ray.evaluation.table.statistics import Sample, bootstrap, holm
from metarec_ray.inference.recommender import Recommender, SupportEvent
from metarec_ray.inference.two_stage import TwoStage, first_stage_model

CONFIG = Path(__file__).parent.parent / "jobs" / "configs" / "ml-1m-strict.yaml"
STAGES = ("second_stage", "second_stage_attention")
RIVALS = ("recency_popularity", "ease", "sequence_neighbours", "windowed_ridge")
METRIC, RESAMPLES, REQUESTS = "ndcg@10", 10_000, 300


class Cost(NamedTuple):
    """What a second stage costs.

    Attributes:
        name: of it.
        fit_seconds: CPU seconds of the whole fit, its first stage and all folds included.
        request_ms: of adapting and ranking, p50.
        added_ms: of that, the second stage, p50.

    """

    name: str
    fit_seconds: float
    request_ms: float
    added_ms: float


def main() -> int:
    """Fit, judge and time; write the file."""
    parser = argparse.ArgumentParser(description="Measure what a second stage is worth.")
    parser.add_argument("--seeds", type=int, default=1, help="fits of each")
    parser.add_argument("--ties", choices=("sequence", "shuffled"), default="sequence")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if "METAREC_DATA" not in os.environ:
        print("METAREC_DATA must name the folder of the data sets, it is not set", file=sys.stderr)
        return 2
    experiment = load(CONFIG, [f"data.ties={arguments.ties}"])
    with tempfile.TemporaryDirectory() as folder:
        log = read_log(experiment.data, data_dir=Path(os.environ["METAREC_DATA"]))
        build_store(log, log.settings, Path(folder) / "store")
        text = measured(experiment, TaskStore.open(Path(folder) / "store"), arguments.seeds)
    print(text)
    name, title = "second-stage", "What a second stage is worth"
    command = f"python -m benchmarks.bench_second_stage --seeds {arguments.seeds}"
    if arguments.ties == "shuffled":
        name, title = f"{name}-shuffled", f"{title}, order inside a second drawn anew"
        command += " --ties shuffled"
    write_result(name, title, command, text)
    return 0


def measured(experiment: Experiment, store: TaskStore, seeds: int) -> str:
    """Return the tables of methods, of gains over first stages, and of costs."""
    entries = lineup(
        experiment, "implicit", n_items=len(store.items.ids), positive_min=None, ratings=False
    )
    opened = open_protocol("strict", experiment, store, seed=0, data_dir=None)
    found: list[Measured] = []
    costs: list[Cost] = []
    for name in RIVALS:
        fitted = fit_experiment(override(experiment, entries[name].overrides), store)
        found += _judged(opened, name, entries[name].kind, 0, fitted)
    for name in STAGES:
        for seed in range(seeds):
            asked = override(experiment, {**entries[name].overrides, "run.seed": seed})
            started = time.process_time()
            both = fit_experiment(asked, store, fitting=Fitting(seed, progress=_told))
            seconds = time.process_time() - started
            found += _judged(opened, name, "learner", seed, both)
            found += _judged(opened, f"{name}: first stage", "learner", seed, first_stage_of(both))
            costs.append(Cost(f"{name}, seed {seed}", seconds, *_request_times(Recommender(both))))
    header = Header(CONFIG.stem, "implicit", 0, "strict")
    table = ranking_text.render(judge(found, header, resamples=experiment.evaluate.resamples))
    return f"```\n{table}\n```\n\n{_gains(found, experiment.evaluate.ks)}\n\n{_costs(costs)}"


def first_stage_of(both: Checkpoint) -> Checkpoint:
    """Return the first stage of a checkpoint."""
    config = {**both.config, "second_stage": None}
    return both._replace(config=config, model=first_stage_model(both.model))


def _judged(opened: Opened, name: str, kind: str, seed: int, fitted: Checkpoint) -> list[Measured]:
    return opened.measure(Candidate(name, kind, seed, Recommender(fitted)))


def _gains(found: list[Measured], ks: tuple[int, ...]) -> str:
    """Return what each second stage gains over its first, with Holm's correction over both."""
    lines, p_values = [], []
    for name in STAGES:
        for k in ks:
            samples = [_sample(found, one, k) for one in (name, f"{name}: first stage")]
            of = bootstrap(samples, resamples=RESAMPLES, seed=0)
            difference = samples[0].mean() - samples[1].mean()
            tails = torch.tensor([0.025, 0.975], dtype=torch.float64)
            low, high = (of.means[0] - of.means[1]).quantile(tails).tolist()
            p_values.append(of.p_value(0, 1))
            lines.append(f"| {name} | {k} | {difference:+.4f} | [{low:+.4f}, {high:+.4f}] |")
    told = [
        f"{line} {p:.2g} | {corrected:.2g} |"
        for line, p, corrected in zip(lines, p_values, holm(p_values), strict=True)
    ]
    head = "| gain over its first stage | k | NDCG@10 | 95 % interval | p | corrected |"
    return "\n".join([head, "|---|---|---|---|---|---|", *told])


def _sample(found: list[Measured], name: str, k: int) -> Sample:
    own = [one for one in found if one.method == name and one.condition.k == k]
    values = torch.stack([one.values[METRIC] for one in own])
    return Sample(values, torch.ones_like(values), tuple(one.seed for one in own))


def _request_times(recommender: Recommender) -> tuple[float, float]:
    """Return p50 in ms of a request with ten events, and of its second stage alone."""
    stages = recommender.predictor
    assert isinstance(stages, TwoStage)
    rows = torch.randint(len(recommender.ids), (10,), generator=torch.Generator().manual_seed(0))
    moments = [1_000_000_000_000_000 + 20_000_000 * number for number in range(10)]
    events = [
        SupportEvent(recommender.ids[row], time=moment)
        for row, moment in zip(rows.tolist(), moments, strict=True)
    ]
    supports = recommender._supports(events, {}, {})
    asked = stages.candidates.shortlists(supports)
    with torch.inference_mode():
        whole = _p50(lambda: recommender.rank(events))
        return whole, _p50(lambda: stages.reranker.scores(asked))


def _p50(work: Callable[[], object]) -> float:
    found = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        work()
        found.append((time.perf_counter() - started) * 1e3)
    return quantile(found, 0.5)


def _costs(costs: list[Cost]) -> str:
    head = "| costs | fit, CPU s, all folds | request with ten events, ms, p50 | second stage, ms |"
    lines = [
        f"| {one.name} | {one.fit_seconds:.0f} | {one.request_ms:.2f} | {one.added_ms:.2f} |"
        for one in costs
    ]
    return "\n".join([head, "|---|---|---|---|", *lines])


def _told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
