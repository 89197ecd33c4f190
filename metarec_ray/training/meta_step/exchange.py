"""How lane results travel between workers: gathered whole, never reduced.

Knows torch.distributed; does not know what a gradient means. An all-reduce would add in an order
that depends on the number of workers; gathered lanes are added in lane order by every worker.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from metarec_ray.training.meta_step.step import LaneResult


class AllGather:
    """The exchange of a process group: lane l belongs to rank l mod world."""

    def __init__(self) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def gather(self, mine: dict[int, LaneResult], lanes: int) -> list[LaneResult]:
        slots = -(-lanes // self.world)
        own = [mine[lane] for lane in sorted(mine)]
        dense = self._lanes([result.dense for result in own], slots, lanes)
        metrics = self._lanes([result.metrics for result in own], slots, lanes)
        rows = {
            name: self._rows([result.rows[name] for result in own], slots, lanes)
            for name in own[0].rows
        }
        return [
            LaneResult(dense[lane], {name: rows[name][lane] for name in rows}, metrics[lane])
            for lane in range(lanes)
        ]

    def _rows(
        self, own: list[tuple[Tensor, Tensor]], slots: int, lanes: int
    ) -> list[tuple[Tensor, Tensor]]:
        sizes = torch.tensor([len(ids) for ids, _ in own])
        counts = [int(size) for size in self._lanes(list(sizes), slots, lanes)]
        widest = max(counts)
        ids = self._lanes([_pad(ids, widest) for ids, _ in own], slots, lanes)
        gradients = self._lanes([_pad(gradient, widest) for _, gradient in own], slots, lanes)
        return [(i[:n], g[:n]) for i, g, n in zip(ids, gradients, counts, strict=True)]

    def _lanes(self, own: list[Tensor], slots: int, lanes: int) -> list[Tensor]:
        """Return one tensor a lane; `own` are of this rank, padded to `slots` for the exchange."""
        stacked = torch.stack([*own, *[torch.zeros_like(own[0])] * (slots - len(own))])
        everyone = [torch.empty_like(stacked) for _ in range(self.world)]
        dist.all_gather(everyone, stacked)
        return [everyone[lane % self.world][lane // self.world] for lane in range(lanes)]


def _pad(value: Tensor, length: int) -> Tensor:
    padded = value.new_zeros((length, *value.shape[1:]))
    padded[: len(value)] = value
    return padded
