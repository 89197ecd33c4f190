"""Measure the reader of training tasks: padded tasks a second, and how long training waits.

    python -m benchmarks.bench_reader [--json]

One core reads lanes of a store of 4 M events and 100,000 users, from its cache: with the whole
catalogue, and with 100 negatives of each sampling. Then two workers train on the synthetic log;
what share of their time they wait for lanes is the stall share. Writes
benchmarks/results/reader_<hardware>_<date>.md, without --json.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import torch

from benchmarks.bench_prepare import generate
from benchmarks.machine import write_result
from metarec_ray.config.experiment import Experiment
from metarec_ray.data.log import sources
from metarec_ray.data.settings import Columns, Data, Synthetic
from metarec_ray.data.store import pipeline
from metarec_ray.data.store.planning import Run
from metarec_ray.data.tasks.cuts import Cut
from metarec_ray.data.tasks.lanes import LaneSampler
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.meta_step.step import LaneResult
from metarec_ray.training.process import set_up
from metarec_ray.training.trainer import Trainer

ROWS, USERS, LANE_TASKS, LANES, REFERENCE = 4_000_000, 100_000, 256, 200, 512
STEPS, WORKERS = 60, 2
CUTS = {
    "whole catalogue": Cut(),
    "100 negatives, uniform": Cut(negatives=100),
    "100 negatives, popularity": Cut(negatives=100, negative_sampling="popularity"),
    "100 negatives, in batch": Cut(negatives=100, negative_sampling="in_batch"),
}


class Alone:
    """One of several workers whose exchange is nothing: each keeps its own lanes."""

    def __init__(self, rank: int, world: int):
        self.rank, self.world = rank, world

    def gather(self, mine: dict[int, LaneResult], lanes: int) -> list[LaneResult]:
        return list(mine.values())


def main() -> None:
    """Measure both and write the table."""
    parser = argparse.ArgumentParser(description="Measure the reader of training tasks.")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rates = read_rates(folder)
        stall = stall_share(folder)
    if asked.json:
        print(json.dumps({"tasks_per_s": rates["whole catalogue"], "stall_share": stall}))
        return
    lines = [f"Lanes of {LANE_TASKS} tasks, supports of up to 10 events and 10 queries.", ""]
    lines += ["| lanes | padded tasks/s of one core |", "|---|---|"]
    lines += [f"| {name} | {rate:,} |" for name, rate in rates.items()]
    lines += ["", f"{WORKERS} workers wait for lanes {stall:.2%} of their time."]
    command = "python -m benchmarks.bench_reader"
    write_result("reader", "Reading tasks", command, "\n".join(lines))


def read_rates(folder: Path) -> dict[str, int]:
    """Return the padded tasks/s of CPU time of each way to compare."""
    generate(folder / "log", rows=ROWS, users=USERS)
    settings = Data(path=str(folder / "log"), columns=Columns(label="rating", time="time"))
    run = Run(map, map, lambda _: None)
    pipeline.build(sources.find(settings), folder / "store", run)
    store = TaskStore.open(folder / "store", cache=folder / "cache")
    store.histories(("train",))  # made once, mapped from here on
    histories, catalogue = store.histories(("train",)), store.trained_items()
    reference = torch.arange(REFERENCE)
    rates = {}
    for name, cut in CUTS.items():
        made = LaneSampler(histories, catalogue, cut, reference=reference)
        made.lane(0, 0, 0, lanes=1, lane_tasks=LANE_TASKS)
        begin = time.process_time()
        for step in range(LANES):
            made.lane(0, step, 0, lanes=1, lane_tasks=LANE_TASKS)
        rates[name] = round(LANES * LANE_TASKS / (time.process_time() - begin))
    return rates


def stall_share(folder: Path) -> float:
    """Return the share of their time that workers, threads here, wait for lanes."""
    settings = Data(synthetic=Synthetic())
    run = Run(map, map, lambda _: None)
    pipeline.build(sources.find(settings), folder / "synthetic", run)
    store = TaskStore.open(folder / "synthetic")
    experiment = Experiment.model_validate({"data": settings.model_dump()})
    waited, whole = [0.0] * WORKERS, [0.0] * WORKERS
    set_up(torch.device("cpu"))

    def work(rank: int) -> None:
        trainer = Trainer(experiment, store)
        get = trainer._lanes.get

        def timed(*asked, **following):
            begin = time.perf_counter()
            found = get(*asked, **following)
            waited[rank] += time.perf_counter() - begin
            return found

        trainer._lanes.get = timed  # type: ignore[method-assign]
        begin = time.perf_counter()
        for _ in range(STEPS):
            trainer.train_step(Alone(rank, WORKERS))
        whole[rank] = time.perf_counter() - begin

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return round(sum(waited) / sum(whole), 4)


if __name__ == "__main__":
    main()
