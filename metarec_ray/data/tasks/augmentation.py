"""Task augmentation: tasks of training that are changed at random, so that few teach more.

A pure function of (seed, epoch, task id), as the cut of the tasks is, and apart from it: with and
without augmentation the windows are the same. Knows tasks; does not know learners or steps, or that
validation and serving have none of it.
"""

from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from metarec_ray.core.batch import Events, Task
from metarec_ray.data.draws import mixed, uniform
from metarec_ray.data.setting_types import Settings
from metarec_ray.data.tasks.spans import Span

_STREAM = 7


class Augmentation(Settings):
    """The `train.augmentation` section: how tasks of training are changed at random.

    Attributes:
        label_shift: standard deviation of one number a task that is added to all its labels, of
            support and query alike, in standard deviations of the labels; ratings only. Whoever
            knows the user beforehand does not know it: the support has to be read [Rajendran et
            al., 2020, arXiv:2007.05549]. Tasks without a support have none, which nothing tells.
        support_dropout: probability that an event of a support is left out, as if it had not been;
            a support may lose all.

    """

    label_shift: NonNegativeFloat = 0.0
    support_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Drawn(NamedTuple):
    """What is random about T tasks.

    Attributes:
        shift: float64 [T], added to labels.
        kept: bool [T, width], events of the supports that are not left out.

    """

    shift: np.ndarray
    kept: np.ndarray


def draw(
    settings: Augmentation, seed: int, epoch: np.ndarray, task_id: np.ndarray, *, width: int
) -> Drawn:
    """Return what is random about tasks [T] whose supports are `width` events wide."""
    own = int(mixed(seed, np.array([_STREAM]))[0])
    draws = uniform(own, epoch, task_id, draws=2 + width)
    # Box-Muller: a draw is never 1.
    normal = np.sqrt(-2 * np.log1p(-draws[:, 0])) * np.cos(2 * np.pi * draws[:, 1])
    return Drawn(settings.label_shift * normal, draws[:, 2:] >= settings.support_dropout)


def thinned(support: Span, kept: np.ndarray) -> Span:
    """Return supports without the events that are not `kept` [T, width], as if never there."""
    at, mask = support[0], support[1] & kept
    order = np.argsort(~mask, axis=1, kind="stable")
    return np.take_along_axis(at, order, 1), np.take_along_axis(mask, order, 1)


def shifted(tasks: Task, shift: np.ndarray) -> Task:
    """Return the tasks with `shift` [T] added to the labels of those that have a support."""
    told = tasks.support.mask.any(1)
    of_task = torch.where(told, torch.from_numpy(shift).to(tasks.support.label), 0.0)
    return tasks._replace(
        support=_moved(tasks.support, of_task), query=_moved(tasks.query, of_task)
    )


def _moved(events: Events, shift: Tensor) -> Events:
    moved = events.label + shift.unsqueeze(1)
    return events._replace(label=torch.where(events.mask, moved, events.label))
