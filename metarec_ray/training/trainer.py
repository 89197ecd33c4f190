"""Meta-training of one experiment on one store: the state, its steps, and what it resumes from.

Knows experiments, stores and checkpoints; does not know ray: workers come in as an `Exchange`.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarec_ray.checkpoint import BUFFER, Checkpoint
from metarec_ray.config import Experiment
from metarec_ray.core.batch import Lane
from metarec_ray.core.outer_loop import Params
from metarec_ray.data.lanes import LaneSampler
from metarec_ray.data.manifest import ITEMS
from metarec_ray.data.settings import Feedback
from metarec_ray.data.task_store import TaskStore
from metarec_ray.errors import CheckpointError
from metarec_ray.models.towers import Side, Sides
from metarec_ray.training.objective import METRIC, lane_objective
from metarec_ray.training.optimizer import moments, rate
from metarec_ray.training.prior import item_buffers
from metarec_ray.training.step import Exchange, LaneResult, ParameterState, apply, lane_result


class Progress(NamedTuple):
    """One line of progress: means since the last line."""

    step: int
    steps: int
    loss: float
    metric_name: str
    metric: float
    tasks_per_s: float
    outer_lr: float


class Trainer:
    """The meta-parameters of an experiment and how they change; `seconds` of training so far."""

    def __init__(self, experiment: Experiment, store: TaskStore, *, device: str = "cpu"):
        """Initialise from the seed; one torch thread, so that bits depend on nothing else."""
        torch.set_num_threads(1)
        self.experiment, self.store, self.device = experiment, store, torch.device(device)
        self.feedback: Feedback = store.manifest.feedback
        train, seed = experiment.train, experiment.run.seed
        parts = tuple(train.parts.split("+"))
        histories = store.histories(parts)
        self.trained = torch.zeros(len(store.items.ids), dtype=torch.bool)
        self.trained[histories.item] = True
        self.buffers = item_buffers(
            histories,
            self.trained,
            experiment.model,
            self.feedback,
            cutoff=store.manifest.cutoff,
            reference=train.reference_items,
            seed=seed,
        )
        self.sampler = LaneSampler(
            histories,
            self.trained,
            store.items.features,
            train.tasks,
            reference=self.buffers["reference.items"],
        )
        dense, tables = experiment.model.init(sides(store), torch.Generator().manual_seed(seed))
        dense |= experiment.algorithm.init(dense)
        if "item.ids" in tables:
            tables["item.ids"][~self.trained] = 0.0  # never touched: a new item is its features
        self.step = 0
        self.seconds = 0.0
        self.state = self._on_device(ParameterState(dense, tables, moments(dense | tables)))
        self.buffers = {name: value.to(self.device) for name, value in self.buffers.items()}

    def train_step(self, exchange: Exchange) -> Tensor:
        """Take one meta-step; return the mean [query loss, query metric] of its tasks."""
        train, seed = self.experiment.train, self.experiment.run.seed
        mine: dict[int, LaneResult] = {}
        with torch.device(self.device):
            for index in range(exchange.rank, train.lanes, exchange.world):
                lane = self.sampler.lane(
                    seed, self.step, index, lanes=train.lanes, lane_tasks=train.lane_tasks
                )
                mine[index] = lane_result(
                    self.experiment.algorithm,
                    self.feedback,
                    self.buffers,
                    self.state,
                    to_device(lane, self.device),
                )
            metrics = apply(
                self.state,
                exchange.gather(mine, train.lanes),
                step=self.step,
                lr=self.outer_lr(),
                weight_decay=train.weight_decay,
                max_norm=train.max_gradient_norm,
            )
        self.step += 1
        return metrics

    def outer_lr(self) -> float:
        """Return the outer learning rate of the next step."""
        train = self.experiment.train
        return rate(self.step, steps=train.steps, peak=train.outer_lr, schedule=train.schedule)

    def validate(self) -> tuple[float, float]:
        """Return the mean query loss and metric of the validation entities' starts, over all ks."""
        train, store = self.experiment.train, self.store
        cut = train.tasks.model_copy(update={"start_share": 1.0})
        histories = store.histories(("valid",))
        histories = histories.keep(self.trained[histories.item])
        totals, count = torch.zeros(2), 0
        for k in cut.ks:
            sampler = LaneSampler(
                histories,
                self.trained,
                store.items.features,
                cut.model_copy(update={"ks": (k,)}),
                reference=self.buffers["reference.items"].cpu(),
            )
            lanes = max(1, len(sampler) // train.lane_tasks)
            for index in range(lanes):
                lane = sampler.lane(0, 0, index, lanes=lanes, lane_tasks=train.lane_tasks)
                totals += self._measure(lane)
            count += lanes
        loss, metric = (totals / count).tolist()
        return loss, self._shown(metric)

    def run(self, exchange: Exchange, until: int) -> Iterator[Progress]:
        """Train up to step `until`; yield a line every `log_every` steps and at the end."""
        train = self.experiment.train
        started, first, sums = time.perf_counter(), self.step, torch.zeros(2)
        while self.step < until:
            lr = self.outer_lr()
            sums += self.train_step(exchange).cpu()
            if self.step % train.log_every == 0 or self.step == until:
                count = self.step - first
                seconds = time.perf_counter() - started
                self.seconds += seconds
                yield self._progress(
                    sums / count, count * train.lanes * train.lane_tasks / seconds, lr
                )
                started, first, sums = time.perf_counter(), self.step, torch.zeros(2)

    def parameters(self) -> Params:
        """Return all parameters and buffers by their names in a checkpoint."""
        state = self.state.dense | self.state.tables
        return state | {BUFFER + name: value for name, value in self.buffers.items()}

    def checkpoint(self, metrics: dict[str, float]) -> Checkpoint:
        """Return everything a resumed run or a server needs."""
        manifest = self.store.manifest
        return Checkpoint(
            model=self.parameters() | {BUFFER + "trained": self.trained},
            optimizer=self.state.moments,
            config=json.loads(self.experiment.model_dump_json()),
            schema={
                "feedback": manifest.feedback,
                "features": {
                    s: [f.model_dump() for f in fields] for s, fields in manifest.features.items()
                },
                "vocabularies": self.store.vocabularies,
            },
            metrics=metrics,
            state={
                "step": self.step,
                "seed": self.experiment.run.seed,
                "store_sha256": manifest.store_sha256,
            },
            catalogue=(self.store.path / ITEMS).read_bytes(),
        )

    def restore(self, checkpoint: Checkpoint, path: Path) -> None:
        """Continue from `checkpoint`; CheckpointError if its data or configuration are others."""
        expected = self.checkpoint({}).state | {"step": checkpoint.state["step"]}
        if checkpoint.state != expected:
            raise CheckpointError(
                f"a run resumes on the store and seed it began with, {path} has "
                f"{checkpoint.state}, now {expected}; "
                "choose another run.dir to begin anew"
            )
        if (
            changed := _changed(checkpoint.config, json.loads(self.experiment.model_dump_json()))
        ) is not None:
            raise CheckpointError(
                f"a run resumes with the configuration it began with, {changed} differs "
                f"from that of {path}; "
                "choose another run.dir to begin anew"
            )
        for own in (self.state.dense, self.state.tables):
            for name, value in own.items():
                value.copy_(checkpoint.model[name])
        for name, value in self.state.moments.items():
            value.copy_(checkpoint.optimizer[name])
        self.step = int(checkpoint.state["step"])
        self.seconds = float(checkpoint.metrics.get("seconds", 0.0))

    def _measure(self, lane: Lane) -> Tensor:
        with torch.device(self.device), torch.no_grad():
            lane = to_device(lane, self.device)
            objective = lane_objective(self.experiment.algorithm, self.feedback, self.buffers, lane)
            rows = {"item.ids": lane.items, "user.ids": lane.entity}
            return objective(
                self.state.dense, {n: t[rows[n]] for n, t in self.state.tables.items()}
            )[1].cpu()

    def _progress(self, means: Tensor, tasks_per_s: float, lr: float) -> Progress:
        loss, metric = means.tolist()
        name, metric = METRIC[self.feedback], self._shown(metric)
        return Progress(self.step, self.experiment.train.steps, loss, name, metric, tasks_per_s, lr)

    def _shown(self, metric: float) -> float:
        """Return a mean squared error as its root, other metrics as they are."""
        return metric**0.5 if self.feedback == "explicit" else metric

    def _on_device(self, state: ParameterState) -> ParameterState:
        return ParameterState(*({n: p.to(self.device) for n, p in part.items()} for part in state))


def sides(store: TaskStore) -> Sides:
    """Return the sizes a model must know of a store."""
    spaces = (store.user_space, store.item_space, store.context_space)
    user, item, context = (Side(space.tokens, space.dense) for space in spaces)
    return Sides(user, item, context, users=store.manifest.tasks, items=len(store.items.ids))


def to_device(lane: Lane, device: torch.device) -> Lane:
    """Return the lane with all its tensors on `device`."""
    return _moved(lane, device)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    return type(value)(*(_moved(part, device) for part in value))


def _changed(old: dict, new: dict) -> str | None:
    """Return the first key that decides the numbers and differs, None if there is none."""
    for section in ("model", "algorithm", "train"):  # the store's hash stands for `data`
        for key in new[section]:
            if key in (
                "num_workers",
                "device",
                "cpus_per_worker",
                "max_failures",
                "log_every",
                "checkpoint_every",
            ):
                continue
            if old[section].get(key) != new[section][key]:
                return f"{section}.{key}"
    return None
