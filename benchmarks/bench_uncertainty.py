"""How sure learners of ratings are, and whether they are right: RMSE and coverage of intervals.

    METAREC_DATA=DIR python -m benchmarks.bench_uncertainty [METHOD ...]

Fits each method on the training users of MovieLens-1M as jobs/configs/ml-1m-melu.yaml has them and
predicts the last ten ratings, in random order, of each held-out training user with 13 or more: no
test user is read. Minutes.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.machine import write_result
from metarec_ray.config.experiment import Experiment, load, override
from metarec_ray.core.batch import Features
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.inference.predictor import Predictor
from metarec_ray.inference.recommender import Recommender
from metarec_ray.inference.supports import Supports
from metarec_ray.training.fit import fit_histories

CONFIG = Path(__file__).parent.parent / "jobs" / "configs" / "ml-1m-melu.yaml"
QUERY, LEAST, MOST = 10, 13, 100  # ratings of a query, and of a user whose ratings are asked for
SIZES = (0, 1, 3, 10, MOST)  # of the support
WIDTHS = {0.5: 0.674490, 0.9: 1.644854}  # standard normal quantiles of both sides
BARE: Mapping[str, Any] = {"content": {}, "demographics": {}}
CONTENT = ("content", {"genres": 0.7, "imdb_genres": 0.7, "certificate": 0.5, "released": 1.0,
           "director": 1.0, "writer": 0.6, "actor": 0.6, "title_words": 0.4})  # fmt: skip
METHODS: Mapping[str, Mapping[str, Any]] = {
    "eb_ridge": {"name": "eb_ridge"},
    "covariance_tracking, without content": {"name": "covariance_tracking", "backbone": BARE},
    "the same, forgetting 0.999": {
        "name": "covariance_tracking", "backbone": BARE, "forgetting": 0.999,
    },
    "variational_bayes": {"name": "variational_bayes", **dict([CONTENT])},
    "covariance_tracking": {"name": "covariance_tracking", "backbone": dict([CONTENT])},
    "gp_head": {"name": "gp_head", "backbone": dict([CONTENT])},
}  # fmt: skip


class Tasks(NamedTuple):
    """Histories in random order: a support and the last ratings."""

    supports: Supports
    query: Tensor  # int64 [T, QUERY]
    label: Tensor  # float [T, QUERY]

    def after(self, k: int) -> Supports:
        """Return the supports with their first k ratings."""
        mask = self.supports.mask & (torch.arange(self.supports.mask.shape[1]) < k)
        return self.supports._replace(mask=mask)


def main() -> int:
    """Fit and judge every method, and write the file."""
    torch.set_num_threads(1)
    if "METAREC_DATA" not in os.environ:
        print("METAREC_DATA must name the folder of the data sets, it is not set", file=sys.stderr)
        return 2
    experiment = load(CONFIG, [])
    with tempfile.TemporaryDirectory() as folder:
        log = read_log(experiment.data, data_dir=Path(os.environ["METAREC_DATA"]))
        build_store(log, log.settings, Path(folder) / "store")
        store = TaskStore.open(Path(folder) / "store")
        tasks = held_out(store)
        names = sys.argv[1:] or list(METHODS)
        lines = [line for name in names for line in told(name, experiment, store, tasks)]
    head = [
        "| method | k | RMSE | mean std | covered by 50 % | by 90 % |",
        "|---|---|---|---|---|---|",
    ]
    users = f"{len(tasks.label)} validation users, {QUERY} ratings each."
    text = "\n".join([users, "", *head, *lines])
    title = "How sure learners of ratings are: MovieLens-1M `melu`, validation users"
    write_result("uncertainty", title, "python -m benchmarks.bench_uncertainty", text)
    return 0


def told(name: str, experiment: Experiment, store: TaskStore, tasks: Tasks) -> list[str]:
    """Return the lines of a method, one for each size of the support."""
    train = {"train.parts": "train"}
    started = time.process_time()
    chosen = override(experiment, {"algorithm": dict(METHODS[name])} | train)
    predictor = Recommender(fit_histories(chosen, store)).predictor
    print(f"{name}: {time.process_time() - started:.0f} CPU s", file=sys.stderr, flush=True)
    lines = [f"| {name} | {k} | {judged(predictor, tasks, k)} |" for k in SIZES]
    print("\n".join(lines), flush=True)
    return lines


def judged(predictor: Predictor, tasks: Tasks, k: int) -> str:
    """Return RMSE, mean standard deviation, and the shares of ratings within the intervals."""
    supports = tasks.after(k)
    error = tasks.label - predictor.scores(supports, items=tasks.query)
    std = torch.cat([_stds(predictor, supports, tasks.query, row) for row in range(len(error))])
    shares = [(error.abs() <= width * std).float().mean().item() for width in WIDTHS.values()]
    rmse = error.square().mean().sqrt().item()
    return " | ".join(
        [f"{rmse:.4f}", f"{std.mean():.4f}", *(f"{100 * one:.1f} %" for one in shares)]
    )


def _stds(predictor: Predictor, supports: Supports, query: Tensor, row: int) -> Tensor:
    found = predictor.stds(supports.at(torch.tensor([row])), query[row : row + 1])
    assert found is not None
    return found


def held_out(store: TaskStore) -> Tasks:
    """Return the tasks of the validation users, each one's newest `MOST` ratings shuffled."""
    histories = store.histories(("valid",))
    generator = torch.Generator().manual_seed(0)
    users = (histories.lengths() >= LEAST).nonzero().flatten()
    sizes = histories.lengths()[users].clamp(max=MOST)
    support = torch.zeros(len(users), MOST - QUERY, dtype=torch.int64)
    query = torch.zeros(len(users), QUERY, dtype=torch.int64)
    for row, (user, size) in enumerate(zip(users.tolist(), sizes.tolist(), strict=True)):
        end = int(histories.offsets[user + 1])
        shuffled = end - size + torch.randperm(size, generator=generator)
        support[row, : size - QUERY] = shuffled[:-QUERY]
        query[row] = shuffled[-QUERY:]
    nothing = torch.zeros(*support.shape, 0)
    context = Features(nothing.long(), nothing, nothing)
    supports = Supports(
        item=histories.item[support],
        label=histories.label[support],
        mask=torch.arange(MOST - QUERY) < (sizes - QUERY).unsqueeze(1),
        time=torch.zeros_like(support),
        context=context,
        user=histories.users.features.at(users),
        now=Features(*(column[:, :1] for column in context)),
    )
    return Tasks(supports, histories.item[query], histories.label[query])


if __name__ == "__main__":
    sys.exit(main())
