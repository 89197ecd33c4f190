"""The loop around a trainer: resume, train, write checkpoints.

Knows where checkpoints of a run lie; does not know who computes lanes, or where lines go.
"""

from collections.abc import Callable
from pathlib import Path

from metarec_ray import checkpoint as checkpoints
from metarec_ray.training.meta_step.step import Exchange
from metarec_ray.training.trainer import Progress, Trainer


def resume(trainer: Trainer, folder: Path) -> int:
    """Restore the newest good checkpoint of `folder`, if any; return the step to continue from."""
    found = checkpoints.latest(folder)
    if found is not None:
        trainer.restore(found[1], found[0])
    return trainer.step


def train_loop(
    trainer: Trainer, exchange: Exchange, folder: Path, *, report: Callable[[Progress], None]
) -> Path:
    """Train to the end, a checkpoint every `checkpoint_every` steps; return the last one's path."""
    train = trainer.experiment.train
    resume(trainer, folder)
    metrics: dict[str, float] = {}
    while trainer.step < train.steps:
        until = min(
            train.steps, (trainer.step // train.checkpoint_every + 1) * train.checkpoint_every
        )
        for progress in trainer.run(exchange, until):
            metrics = {"query_loss": progress.loss, progress.metric_name: progress.metric}
            metrics["seconds"] = round(trainer.seconds, 1)
            report(progress)
        if exchange.rank == 0:
            checkpoints.save(
                trainer.checkpoint(metrics), checkpoints.step_path(folder, trainer.step)
            )
    return checkpoints.step_path(folder, trainer.step)
