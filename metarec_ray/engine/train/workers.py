"""A group of Ray Train workers, which Ray restarts after a failure.

Knows scaling and failures; `training` knows what a step does. A restarted group resumes from our
own checkpoints in `run.dir`.
"""

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch.distributed as dist
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer, get_device

from metarec_ray.checkpoint import CHECKPOINTS
from metarec_ray.config.experiment import Experiment, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster import access
from metarec_ray.engine.cluster.session import interruptible
from metarec_ray.engine.nodes import require_cpus, require_shared
from metarec_ray.engine.train.following import (
    HUNG_AFTER_S,
    STARTED,
    Failures,
    Follower,
    cause,
    failure,
)
from metarec_ray.engine.train.process_group import OwnGroup, process_group
from metarec_ray.engine.train.reservation import take_over
from metarec_ray.errors import MachineError, RunFailed
from metarec_ray.storage.keeping import Keeper
from metarec_ray.storage.places import located
from metarec_ray.training.meta_step.exchange import AllGather
from metarec_ray.training.meta_step.step import Alone
from metarec_ray.training.run_folder import metrics_log
from metarec_ray.training.run_folder.fence import Fence
from metarec_ray.training.run_folder.metrics_log import Progress
from metarec_ray.training.run_folder.saver import Saver
from metarec_ray.training.segments import (
    Metrics,
    checkpoint_steps,
    resume,
    segments_of,
    train_segments,
)
from metarec_ray.training.trainer import Trainer

RESIZED_AFTER_S = 60.0
"""An elastic group looks for room so often: a change costs the steps since the last checkpoint."""
ROOM_FOR_S = 21.0
"""An elastic group waits so long for the room it was decided to have.

Ray decides by what it knew of the nodes up to 20 s ago: one that is gone is waited for once.
"""
_HUNG_AFTER = "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"
_ROOM_FOR = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"


def train_on_workers(
    experiment: Experiment, directory: Path, progress: Callable[[str], None]
) -> None:
    """Train until `train.steps`; checkpoints and metrics lie in `directory`.

    Raises:
        MachineError: the cluster has not the CPUs or GPUs that are asked for, or a node does not
            see the run.
        RunFailed: the workers failed more often than `train.max_failures`.

    """
    asked, (fewest, most) = experiment.train, experiment.train.workers
    require_cpus(
        asked.cpus_per_worker,
        fewest,
        key=f"train.num_workers {asked.num_workers}, cpus_per_worker {asked.cpus_per_worker:g}",
    )
    require_shared(directory, experiment.store)
    trainer = _ray_trainer(experiment, directory)
    take_over(directory, trainer.train_run_context.run_id)
    told = Follower(directory, progress, workers=fewest, cpus=asked.cpus_per_worker)
    try:
        with _patience(elastic=most > fewest), told, interruptible():
            trainer.fit()
    except KeyboardInterrupt:
        progress("train: interrupted; the same command resumes")
        raise
    except ray.train.TrainingFailedError as error:
        raise RunFailed(_failed(error, told, asked.max_failures)) from error


@contextmanager
def _patience(*, elastic: bool) -> Iterator[None]:
    """Tell Ray how long to wait for a `with` block, unless the user's environment does."""
    ours = {_HUNG_AFTER: f"{HUNG_AFTER_S:g}"}  # Ray's own is ten minutes
    if elastic:
        ours[_ROOM_FOR] = f"{ROOM_FOR_S:g}"
    added = {name: value for name, value in ours.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _failed(error: ray.train.TrainingFailedError, told: Follower, limit: int) -> str:
    """Return why a run was given up, and what goes on from here."""
    if isinstance(error, ControllerError):  # workers did not start, or Ray itself failed
        why = f"workers could not be started: {cause(error)}"
    else:
        times = "once" if told.failed == 1 else f"{told.failed} times"
        last = told.last_failure
        if not told.failed and isinstance(error, WorkerGroupError):  # nothing could be written
            times, last = f"more than {limit} times", failure(error.worker_failures, [])
        why = f"workers failed {times}, train.max_failures is {limit}: {last}"
    return f"{why}; the same command resumes from the last checkpoint"


def _ray_trainer(experiment: Experiment, directory: Path) -> TorchTrainer:
    settings = experiment.train
    use_gpu = _use_gpu(experiment)
    config = {
        "experiment": json.loads(experiment.model_dump_json()),
        "directory": located(directory),
        "store": located(experiment.store).to_read(),
        "backend": "nccl" if use_gpu else "gloo",
    }
    scaling = ScalingConfig(
        num_workers=settings.num_workers,
        elastic_resize_monitor_interval_s=RESIZED_AFTER_S,
        use_gpu=use_gpu,
        resources_per_worker=_resources(experiment, use_gpu),
        placement_strategy=settings.placement.upper(),
    )
    run = RunConfig(
        # A unique name: with the same one Ray would restore its own state, not our checkpoint.
        name=f"train-{uuid.uuid4().hex[:8]}",
        storage_path=str(directory / "ray"),
        failure_config=FailureConfig(
            max_failures=settings.max_failures, controller_failure_limit=settings.max_failures
        ),
        callbacks=[Failures(directory)],
    )
    return TorchTrainer(
        _worker,
        train_loop_config=config,
        scaling_config=scaling,
        torch_config=OwnGroup(),
        run_config=run,
    )


def _worker(config: dict[str, Any]) -> None:
    with process_group(config["backend"]):
        _train(config)


def _train(config: dict[str, Any]) -> None:
    copy = config["directory"].copy()
    directory, path = config["directory"].here(), config["store"].here()
    if copy is not None and dist.is_initialized():  # whoever had something brought it by now
        dist.barrier()
        copy.join()
    experiment = parse(config["experiment"], "the submitted experiment")
    store = TaskStore.open(path, cache=access.cache(os.environ, path))
    trainer = Trainer(experiment, store, device=str(get_device()))
    exchange = AllGather() if dist.is_initialized() else Alone()
    folder, log = directory / CHECKPOINTS, directory / metrics_log.NAME
    fence = Fence(directory, copy) if exchange.rank == 0 else None
    start = resume(trainer, folder)
    nodes = _nodes(start)
    if exchange.rank == 0:
        metrics_log.forget_after(log, start)
    sentence = _start_sentence(start, nodes)
    ray.train.report({STARTED: sentence, "step": start, "nodes": nodes})

    def report(line: Progress) -> None:
        if fence is not None:
            fence.require()
            metrics_log.append(log, line)

    def at_end(trainer: Trainer, metrics: Metrics) -> None:
        # A report is a barrier, so every rank must report equally often.
        ray.train.report({"step": trainer.step, **metrics})
        if exchange.rank == 0:
            saver.save(trainer.checkpoint(metrics))

    steps = checkpoint_steps(experiment.train.steps, experiment.train.checkpoint_every)
    advance = partial(Trainer.run, exchange=exchange)
    segments = segments_of(trainer, steps, advance=advance, at_end=at_end)
    allow = _nothing if fence is None else fence.require
    with ExitStack() as stack:
        soon = _nothing
        if copy is not None and fence is not None:
            keeper = Keeper(copy, print, allow=fence.require_there)
            soon = stack.enter_context(keeper).soon
        saver = Saver(folder, experiment.train.keep, allow=allow, written=soon)
        stack.enter_context(saver)
        train_segments(segments, report=report)


def _nothing() -> None:
    """Do nothing: another rank writes, or there is nobody to tell."""


def _nodes(step: int) -> tuple[str, ...]:
    """Return the name of the node of each worker, in the order of ranks.

    Raises:
        RunFailed: workers found another checkpoint than others, as where a node's view of a shared
            folder is late; lanes of different steps must never be added up.

    """
    own = (socket.gethostname(), step)
    if not dist.is_initialized():
        return own[:1]
    found = [own] * dist.get_world_size()
    dist.all_gather_object(found, own)
    require_one_start(found)
    return tuple(name for name, _ in found)


def require_one_start(found: Sequence[tuple[str, int]]) -> None:
    """Raise RunFailed unless all workers, of a node's name and a step, begin at the same step."""
    if len({step for _, step in found}) > 1:
        told = ", ".join(f"{step} on {name}" for name, step in found)
        raise RunFailed(
            f"all workers must begin from the same checkpoint, they found those of step {told}: "
            "do all nodes see the same folder?"
        )


def _start_sentence(step: int, nodes: tuple[str, ...]) -> str:
    among = ", ".join(dict.fromkeys(nodes))
    word = "worker" if len(nodes) == 1 else "workers"
    return f"{len(nodes)} {word} on {among} from step {step}"


def _use_gpu(experiment: Experiment) -> bool:
    wanted, (needed, _) = experiment.train.device, experiment.train.workers
    found = ray.cluster_resources().get("GPU", 0)
    if wanted == "cuda" and found < needed:
        raise MachineError(
            f"train.device cuda needs a GPU for each of {needed} workers, the cluster has {found:g}"
        )
    return wanted != "cpu" and found >= needed


def _resources(experiment: Experiment, use_gpu: bool) -> dict[str, float]:
    return {"CPU": experiment.train.cpus_per_worker} | ({"GPU": 1.0} if use_gpu else {})
