"""The shortlist of one task among several."""

import torch

from metarec_ray.algorithms.second_stage.shortlist import Shortlist


def of_task(lists: Shortlist, task: int) -> Shortlist:
    """Return the shortlist of a task, as a set of one."""
    rows = torch.tensor([task])
    return Shortlist(
        item=lists.item[rows],
        real=lists.real[rows],
        score=lists.score[rows],
        parts=lists.parts[:, rows],
        support=lists.support[rows],
        mask=lists.mask[rows],
        time=lists.time[rows],
        user=lists.user.at(rows),
    )
