"""Where a source helps a target with few users, and where not: writes a result file a log.

    METAREC_DATA=DIR python -m benchmarks.bench_transfer [synthetic] [amazon]

Two logs. `synthetic`: half of its training users are the source, the other half the target; nobody
is in both, all items are. `amazon`: food is the source and kitchen the target, as in
jobs/configs/amazon-cross-domain.yaml with fewer and smaller meta-batches; users are in both, no
item is. Of the target's training users a tenth or all are known. Judged on validation users, each
k for itself; no test user is looked at.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.machine import write_result
from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.blending import ranking_quality
from metarec_ray.config.experiment import Experiment, load, override
from metarec_ray.core.histories import Histories
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.domains import items_by_value
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.protocols.cross_domain import CrossDomainTasks, cross_domain_tasks
from metarec_ray.evaluation.table.statistics import Sample, bootstrap
from metarec_ray.evaluation.validation import Validation, validation
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.trainer import Trainer

CONFIGS = Path(__file__).parent.parent / "jobs" / "configs"
SEEDS, SHARES = (0, 1, 2), (0.1, 1.0)
SOURCE, TARGET, BOTH = "source", "target", "both"
Qualities = dict[int, Tensor]
"""From k to one number a validation user."""


class Row(NamedTuple):
    """How a target is learned: from which events, with which changes of `train`.

    `warm` begins with the source's parameters; `longer` takes as many steps as source and target.
    """

    events: str
    warm: bool = False
    freeze: tuple[str, ...] = ()
    longer: bool = False


ROWS = {
    "from scratch": Row(TARGET),
    "from scratch, twice the steps": Row(TARGET, longer=True),
    "warm start": Row(TARGET, warm=True),
    "frozen source, new head": Row(TARGET, warm=True, freeze=("item", "user")),
    "both at once": Row(BOTH),
}


class Log(NamedTuple):
    """A log with a source and a target.

    Attributes:
        experiment: everything but what is learned from.
        domains: `train.domains` of the events of the source, the target and both.
        kept: from histories, what is learned from and the chosen users of the target, bool [E], to
            the events that are kept.
        judge: from a model and whether it is told of the source, to its qualities.

    """

    experiment: Experiment
    store: TaskStore
    domains: dict[str, Any]
    kept: Callable[[Histories, str, Tensor], Histories]
    judge: Callable[[Recommender, bool], Qualities]


def main() -> int:
    """Measure the logs that are asked for and write their files; 2 without the data."""
    names = sys.argv[1:] or list(LOGS)
    if "amazon" in names and "METAREC_DATA" not in os.environ:
        print("METAREC_DATA must be the folder of amazon-food-kitchen/", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            log, lines = LOGS[name](Path(folder)), [_HEAD, ""]
            title, command = f"Transfer: {name}", f"python -m benchmarks.bench_transfer {name}"
            # After each row: what is interrupted leaves those that it has measured.
            for line in _table(log, Path(folder)):
                lines.append(line)
                write_result(f"transfer-{name}", title, command, "\n".join(lines))
    return 0


_HEAD = (
    "NDCG@10 of the target's validation users, means of three seeds; in brackets the p of a paired "
    "bootstrap over users and seeds against `from scratch`, not corrected."
)


def _table(log: Log, folder: Path) -> Iterator[str]:
    """Yield the lines of the table of a log."""
    ks = log.experiment.evaluate.ks
    ks = tuple(k for k in ks if k <= max(log.experiment.train.tasks.ks))
    head = " | ".join(f"k = {k}" for k in ks)
    yield f"| target's users | training | {head} |"
    yield "|---" * (2 + len(ks)) + "|"
    sources = [_source(log, seed, folder / f"source-{seed}") for seed in SEEDS]
    for share in SHARES:
        scratch: list[Qualities] | None = None
        for name, row in ROWS.items():
            started = time.process_time()
            found = [
                _judged(log, row, share, seed, source)
                for seed, source in zip(SEEDS, sources, strict=True)
            ]
            cells = _cells(found, scratch, ks)
            scratch = scratch or found
            line = f"| {share:.0%} | {name} | {cells} |"
            print(line, f"{time.process_time() - started:.0f} CPU s", flush=True)
            yield line


def _cells(found: list[Qualities], beside: list[Qualities] | None, ks: tuple[int, ...]) -> str:
    """Return the mean at each k, and its p against the row `beside`."""
    cells = []
    for k in ks:
        own = _sample(found, k)
        cells.append(f"{own.mean():.4f}")
        if beside is not None:
            drawn = bootstrap([own, _sample(beside, k)], resamples=2000, seed=0)
            cells[-1] += f" ({drawn.p_value(0, 1):.3f})"
    return " | ".join(cells)


def _sample(found: list[Qualities], k: int) -> Sample:
    values = torch.stack([one[k] for one in found])
    return Sample(values, torch.ones_like(values), SEEDS[: len(found)])


def _source(log: Log, seed: int, path: Path) -> Path:
    """Save the model of the source."""
    checkpoints.save(_trained(log, SOURCE, 1.0, {"run.seed": seed}).checkpoint({}), path)
    return path


def _judged(log: Log, row: Row, share: float, seed: int, source: Path) -> Qualities:
    steps = log.experiment.train.steps
    changes = {"run.seed": seed, "train.steps": steps * (2 if row.longer else 1)}
    if row.warm:
        changes |= {"train.init_from": str(source), "train.freeze": list(row.freeze)}
    trainer = _trained(log, row.events, share, changes)
    return log.judge(Recommender(trainer.checkpoint({})), row.events == BOTH)


def _trained(log: Log, events: str, share: float, changes: dict[str, Any]) -> Trainer:
    """Return a trainer after its last step."""
    asked = override(log.experiment, {"train.domains": log.domains[events], **changes})
    kept = partial(_kept, log, events, share, asked.run.seed)
    trainer = Trainer(asked, log.store, statistics_from=kept)
    for _ in trainer.run(asked.train.steps):
        pass
    return trainer


def _kept(log: Log, events: str, share: float, seed: int, histories: Histories) -> Histories:
    """Return the events that are learned from; which users are chosen depends on the seed."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(histories.n_entities, generator=generator) < share
    return log.kept(histories, events, chosen)


def _synthetic(folder: Path) -> Log:
    experiment = override(
        load(CONFIGS / "smoke.yaml"),
        {
            "train.parts": "train",
            "train.num_workers": 1,
            "train.lanes": 1,
            "train.log_every": 100,
            "data.synthetic.users": 3000,
        },
    )
    store = _store(experiment, folder)
    judge = validation(experiment, store)

    def kept(histories: Histories, events: str, chosen: Tensor) -> Histories:
        of_source = histories.task_id % 2 == 0
        known = {SOURCE: of_source, TARGET: ~of_source & chosen, BOTH: of_source | chosen}[events]
        return histories.keep(known[histories.entity()])

    nowhere: dict[str, Any] = {SOURCE: None, TARGET: None, BOTH: None}
    return Log(experiment, store, nowhere, kept, partial(_by_k, judge))


def _amazon(folder: Path) -> Log:
    experiment = override(
        load(CONFIGS / "amazon-cross-domain.yaml"),
        {
            "train.parts": "train",
            "train.num_workers": 1,
            "train.steps": 100,
            "train.lane_tasks": 32,
            "train.log_every": 100,
            "evaluate.ks": [0, 1, 3],
        },
    )
    store = _store(experiment, folder)
    of_food = items_by_value(store, "domain", key="evaluate.cross_domain.feature")["food"]
    (tasks,) = [
        one
        for one in cross_domain_tasks(store, experiment.evaluate.cross_domain, part="valid")
        if one.direction == "food->kitchen"
    ]

    def kept(histories: Histories, events: str, chosen: Tensor) -> Histories:
        if events == SOURCE:
            return histories
        return histories.keep(of_food[histories.item] | chosen[histories.entity()])

    domains = {
        SOURCE: {"weights": {"food": 1.0}, "source": False},
        TARGET: {"weights": {"kitchen": 1.0}, "source": False},
        BOTH: {"weights": {"food": 1.0, "kitchen": 1.0}},
    }
    return Log(experiment, store, domains, kept, partial(_across, tasks))


LOGS = {"synthetic": _synthetic, "amazon": _amazon}


def _store(experiment: Experiment, folder: Path) -> TaskStore:
    data_dir = os.environ.get("METAREC_DATA")
    log = read_log(experiment.data, data_dir=None if data_dir is None else Path(data_dir))
    build_store(log, log.settings, folder / "store")
    return TaskStore.open(folder / "store")


def _by_k(judge: Validation, model: Recommender, told: bool) -> Qualities:
    del told  # of the source's users there is nothing to tell the target's
    return {k: judge.quality(model.scores(judge.tasks.supports(k)), k) for k in judge.ks}


def _across(tasks: CrossDomainTasks, model: Recommender, told: bool) -> Qualities:
    asked = tasks if told else tasks.without_source()
    return {
        k: ranking_quality(
            model.scores(asked.supports(k)), asked.gains(), candidates=asked.candidates(k)
        )
        for k in (0, 1, 3)
    }


if __name__ == "__main__":
    sys.exit(main())
