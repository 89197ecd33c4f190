"""A run as a list of segments, and the loop that trains them.

A segment trains up to a step, then something happens once: a checkpoint is saved, quality is
measured, a sweep is told. Does not know who computes lanes, or what else a run's folder holds.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from metarec_ray import checkpoint as checkpoints
from metarec_ray.training.run_folder.metrics_log import Progress
from metarec_ray.training.run_folder.retention import retain
from metarec_ray.training.trainer import Trainer

Metrics = dict[str, float]
"""Query loss and query metric of the last line of progress, and `seconds` of training so far."""

Advance = Callable[[Trainer, int], Iterator[Progress]]
AtEnd = Callable[[Trainer, Metrics], None]


class Segment(NamedTuple):
    """A part of a run.

    Attributes:
        until: step of the trainer at which the segment ends.
        prepare: returns the trainer; called after the end of the segment before.
        advance: trains up to `until`; yields lines of progress, the last one at the end.
        at_end: called after the last step.

    """

    until: int
    prepare: Callable[[], Trainer]
    advance: Advance
    at_end: AtEnd


def train_segments(segments: Iterable[Segment], *, report: Callable[[Progress], None]) -> Metrics:
    """Train the segments in order and return the metrics at the end; {} if nothing was left.

    A segment whose trainer is already at its end is skipped.
    """
    metrics: Metrics = {}
    for segment in segments:
        trainer = segment.prepare()
        if trainer.step >= segment.until:
            continue
        for line in segment.advance(trainer, segment.until):
            metrics = {"query_loss": line.loss, line.metric_name: line.metric}
            report(line)
        metrics["seconds"] = round(trainer.seconds, 1)
        segment.at_end(trainer, metrics)
    return metrics


def nothing(trainer: Trainer, metrics: Metrics) -> None:
    """Do nothing at the end of a segment."""
    del trainer, metrics


def segments_of(
    trainer: Trainer,
    ends: Iterable[int],
    *,
    advance: Advance = Trainer.run,
    at_end: AtEnd = nothing,
) -> list[Segment]:
    """Return segments of one trainer that end at the steps `ends`."""
    return [Segment(until, lambda: trainer, advance, at_end) for until in ends]


def checkpoint_steps(steps: int, every: int) -> list[int]:
    """Return the steps after which plain training saves a checkpoint.

    >>> checkpoint_steps(10, 4)
    [4, 8, 10]
    """
    return [*range(every, steps, every), steps]


def resume(trainer: Trainer, folder: Path) -> int:
    """Restore the newest good checkpoint of `folder`, if any; return the step to continue from."""
    found = checkpoints.latest(folder)
    if found is not None:
        trainer.restore(found[1], found[0])
    return trainer.step


def save(folder: Path, trainer: Trainer, metrics: Metrics) -> None:
    """Save a checkpoint of the trainer in `folder`, and remove those that it need not keep."""
    written = checkpoints.save_step(trainer.checkpoint(metrics), folder)
    retain(folder, trainer.experiment.train.keep, written=written)
