"""What a learned second stage is worth, on new users of MovieLens-1M, and what it costs.

    METAREC_DATA=DIR python -m benchmarks.bench_second_stage [--part test|valid] [--seeds N]
        [--ties shuffled] [--stages NAME,NAME] [--fits FOLDER] [--set KEY=VALUE]

Fits the second stages of jobs/configs/ml-1m-strict.yaml in this process and judges each on the test
users of `strict`, beside its own first stage and untuned rivals; with --part valid on validation
users, fitted without them: settings are chosen there. Second stages with one first stage order the
same lists. With --ties shuffled the order inside a second is drawn anew, in training and test. A
request is timed on one thread, adapting included. --fits keeps first stages for the next call.
Writes benchmarks/results/second-stage*_<hardware>_<date>.md; minutes a seed.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.machine import write_result
from benchmarks.second_stage_fits import Cost, Fits, first_stage_of, fitted
from metarec_ray.config.experiment import Experiment, load, override
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.bench.lineup import lineup
from metarec_ray.evaluation.bench.protocols import Candidate, item_vectors, open_protocol
from metarec_ray.evaluation.scoring import recommender_method
from metarec_ray.evaluation.table import ranking_text
from metarec_ray.evaluation.table.ranking_measures import Measured, measure
from metarec_ray.evaluation.table.rows import Header, judge
from metarec_ray.evaluation.table.statistics import Sample, bootstrap, holm
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.recommender import Recommender

CONFIG = Path(__file__).parent.parent / "jobs" / "configs" / "ml-1m-strict.yaml"
STAGES = ("second_stage", "second_stage_boosted", "second_stage_attention")
SAME_FIRST = {"second_stage_boosted": "second_stage"}
"""Second stages on the first stage of another one, with which they are compared."""
RIVALS = ("recency_popularity", "ease", "sequence_neighbours", "windowed_ridge")
METRIC, RESAMPLES = "ndcg@10", 10_000
Judge = Callable[[Candidate], list[Measured]]


def main() -> int:
    """Fit, judge and time; write the file."""
    parser = argparse.ArgumentParser(description="Measure what a second stage is worth.")
    parser.add_argument("--part", choices=("test", "valid"), default="test", help="who is judged")
    parser.add_argument("--seeds", type=int, default=1, help="fits of each")
    parser.add_argument("--ties", choices=("sequence", "shuffled"), default="sequence")
    parser.add_argument("--stages", default=",".join(STAGES), help="second stages to fit")
    parser.add_argument("--fits", type=Path, help="folder of fits that are used again")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the experiment")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if "METAREC_DATA" not in os.environ:
        print("METAREC_DATA must name the folder of the data sets, it is not set", file=sys.stderr)
        return 2
    parts = "train+valid" if asked.part == "test" else "train"
    sets = [f"data.ties={asked.ties}", f"train.parts={parts}", *asked.set]
    experiment, stages = load(CONFIG, sets), asked.stages.split(",")
    with tempfile.TemporaryDirectory() as folder:
        log = read_log(experiment.data, data_dir=Path(os.environ["METAREC_DATA"]))
        build_store(log, log.settings, Path(folder) / "store")
        store = TaskStore.open(Path(folder) / "store")
        fits = Fits(store, asked.fits or Path(folder) / "fits")
        text = measured(experiment, fits, stages, asked.seeds, part=asked.part)
    print(text)
    name, title = "second-stage", "What a second stage is worth"
    words = [f"--seeds {asked.seeds}", *(f"--set {one}" for one in asked.set)]
    if asked.stages != ",".join(STAGES):
        words.append(f"--stages {asked.stages}")
    if asked.part == "valid":
        name, title = f"{name}-valid", f"{title}, on validation users"
        words.append("--part valid")
    if asked.ties == "shuffled":
        name, title = f"{name}-shuffled", f"{title}, order inside a second drawn anew"
        words.append("--ties shuffled")
    command = f"python -m benchmarks.bench_second_stage {' '.join(words)}"
    write_result(name, title, command, text)
    return 0


def measured(
    experiment: Experiment, fits: Fits, stages: Sequence[str], seeds: int, *, part: str
) -> str:
    """Return the tables of methods, of gains over first stages, and of costs."""
    store = fits.store
    entries = lineup(
        experiment, "implicit", n_items=len(store.items.ids), positive_min=None, ratings=False
    )
    judged = _judge(experiment, store, part)
    found: list[Measured] = []
    costs: list[Cost] = []
    for name in RIVALS:
        rival = fits.of(override(experiment, entries[name].overrides))
        found += judged(Candidate(name, entries[name].kind, 0, Recommender(rival)))
    for name in stages:
        for seed in range(seeds):
            asked = override(experiment, {**entries[name].overrides, "run.seed": seed})
            both, cost = fitted(f"{name}, seed {seed}", asked, fits)
            costs.append(cost)
            found += judged(Candidate(name, "learner", seed, Recommender(both)))
            if name not in SAME_FIRST:
                first = Recommender(first_stage_of(both))
                found += judged(Candidate(f"{name}: first stage", "learner", seed, first))
    header = Header(CONFIG.stem, "implicit", 0, "strict")
    table = ranking_text.render(judge(found, header, resamples=experiment.evaluate.resamples))
    return f"```\n{table}\n```\n\n{_gains(found, experiment.evaluate.ks)}\n\n{_costs(costs)}"


def _judge(experiment: Experiment, store: TaskStore, part: str) -> Judge:
    """Return what measures a candidate on test users, or on validation users as on those."""
    if part == "test":
        return open_protocol("strict", experiment, store, seed=0, data_dir=None).measure
    tasks, vectors = validation(experiment, store).tasks, item_vectors(store)

    def judged(one: Candidate) -> list[Measured]:
        method = recommender_method(one.recommender, tasks, name=one.name)
        return measure(
            tasks,
            method._replace(kind=one.kind),
            ks=experiment.evaluate.ks,
            seed=one.seed,
            ties=0,
            clock=time.perf_counter,
            vectors=vectors,
        )

    return judged


def _gains(found: list[Measured], ks: tuple[int, ...]) -> str:
    """Return what each second stage gains, with Holm's correction over all."""
    measured = {one.method for one in found}
    pairs = [(name, f"{SAME_FIRST.get(name, name)}: first stage") for name in STAGES]
    pairs = [pair for pair in [*pairs, *SAME_FIRST.items()] if measured.issuperset(pair)]
    lines, p_values = [], []
    for pair in pairs:
        for k in ks:
            samples = [_sample(found, one, k) for one in pair]
            of = bootstrap(samples, resamples=RESAMPLES, seed=0)
            difference = samples[0].mean() - samples[1].mean()
            tails = torch.tensor([0.025, 0.975], dtype=torch.float64)
            low, high = (of.means[0] - of.means[1]).quantile(tails).tolist()
            p_values.append(of.p_value(0, 1))
            names = f"{pair[0]} | {pair[1]}"
            lines.append(f"| {names} | {k} | {difference:+.4f} | [{low:+.4f}, {high:+.4f}] |")
    told = [
        f"{line} {p:.2g} | {corrected:.2g} |"
        for line, p, corrected in zip(lines, p_values, holm(p_values), strict=True)
    ]
    head = "| gain of | over | k | NDCG@10 | 95 % interval | p | corrected |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *told])


def _sample(found: list[Measured], name: str, k: int) -> Sample:
    own = [one for one in found if one.method == name and one.condition.k == k]
    values = torch.stack([one.values[METRIC] for one in own])
    return Sample(values, torch.ones_like(values), tuple(one.seed for one in own))


def _costs(costs: list[Cost]) -> str:
    head = (
        "| costs | first stages, CPU s, all folds | their lists, CPU s | fits of the ranker, CPU s "
        "| request with ten events, ms, p50 | second stage, ms |"
    )
    lines = [
        f"| {one.name} | {one.first_seconds:.0f} | {one.lists_seconds:.0f} "
        f"| {one.ranker_seconds:.0f} | {one.request_ms:.2f} | {one.added_ms:.2f} |"
        for one in costs
    ]
    return "\n".join([head, "|---|---|---|---|---|---|", *lines])


if __name__ == "__main__":
    sys.exit(main())
