"""Task augmentation: tasks of training that are changed at random, so that few teach more.

A pure function of (seed, epoch, task id), as the cut of the tasks is, and apart from it: with and
without augmentation the windows are the same. Knows tasks; does not know learners or steps, or that
validation and serving have none of it.
"""

import numpy as np
import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from metarec_ray.core.batch import Events, Task
from metarec_ray.data.draws import mixed, uniform
from metarec_ray.data.setting_types import Settings

_STREAM = 7


class Augmentation(Settings):
    """The `train.augmentation` section: how tasks of training are changed at random.

    Attributes:
        label_shift: standard deviation of one number a task that is added to all its labels, of
            support and query alike, in standard deviations of the labels; ratings only. Whoever
            knows the user beforehand does not know it: the support has to be read [Rajendran et
            al., 2020, arXiv:2007.05549]. Tasks without a support have none, which nothing tells.

    """

    label_shift: NonNegativeFloat = 0.0


def label_shifts(
    settings: Augmentation, seed: int, epoch: np.ndarray, task_id: np.ndarray
) -> np.ndarray:
    """Return what is added to the labels of tasks [T], float64."""
    own = int(mixed(seed, np.array([_STREAM]))[0])
    draws = uniform(own, epoch, task_id, draws=2)
    # Box-Muller: a draw is never 1.
    normal = np.sqrt(-2 * np.log1p(-draws[:, 0])) * np.cos(2 * np.pi * draws[:, 1])
    return settings.label_shift * normal


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
