"""Which tasks of a lane are computed at once: buckets of like length.

Knows lengths; does not know what is computed on the tasks. A bucket costs a fixed overhead and, for
each of its tasks, as many rows as its longest has: few short tasks are not worth a bucket.
"""

import numpy as np
import torch
from torch import Tensor

OVERHEAD = 400  # rows that cost as much as the calls of one more bucket; measured


def buckets(mask: Tensor, *, overhead: int = OVERHEAD) -> list[Tensor]:
    """Return the positions of the tasks in each bucket; together the buckets cost least.

    Each task is in one bucket. Tasks of a bucket keep their order; buckets ascend in length. A pure
    function of the lengths: a lane has the same buckets wherever it is computed.

    Args:
        mask: bool [T, N], real events first.
        overhead: cost of a bucket beside its padded rows, in rows.

    """
    length, order = mask.sum(1).sort(stable=True)
    sizes, tasks = length.cpu().numpy(), np.arange(len(length))
    if len(sizes) * sizes[-1] - sizes.sum() <= overhead:  # no padding is worth another bucket
        return [torch.sort(order).values]
    # cost[j]: least cost of the j shortest tasks; begin[j]: where their last bucket begins.
    cost, begin = np.zeros(len(sizes) + 1, np.int64), [0]
    for j in range(1, len(sizes) + 1):
        ways = cost[:j] + (j - tasks[:j]) * sizes[j - 1]
        begin.append(int(ways.argmin()))
        cost[j] = ways[begin[-1]] + overhead
    found, end = [], len(sizes)
    while end:
        found.append(torch.sort(order[begin[end] : end]).values)
        end = begin[end]
    return found[::-1]
