"""What learns the next item of a history needs: windows of histories, and a softmax over items.

Knows rows of items; does not know what predicts them. Axes: B histories of a batch, N events, P
positions of a batch in a row, D dimensions, C classes: items that compete.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Generator, Tensor

from metarec_ray.core.histories import Histories

_POOL = 16  # batches whose histories are sorted by length together
_ROWS = 128  # positions whose scores of all classes are held at once: they stay in the cache


class Batch(NamedTuple):
    """Windows of B histories, padded: real events first, oldest first."""

    item: Tensor  # int64 [B, N]
    mask: Tensor  # bool [B, N]
    begins: Tensor  # bool [B]: the window begins with the history's first event


class Windows(NamedTuple):
    """The histories that something can be learned from, at most `length` events of each."""

    item: Tensor  # int64 [events]: of all histories, one after another
    start: Tensor  # int64 [histories]: first event of each
    size: Tensor  # int64 [histories], > 0
    length: int
    share: Tensor  # float [I]: of the events, each item's

    @classmethod
    def of(cls, histories: Histories, length: int) -> "Windows":
        """Return the windows of all entities with an event."""
        sizes = histories.lengths()
        kept = sizes > 0
        counts = torch.bincount(histories.item, minlength=histories.n_items)
        share = counts / counts.sum().clamp(min=1)
        return cls(histories.item, histories.offsets[:-1][kept], sizes[kept], length, share)

    def steps(self, batch: int) -> int:
        """Return how many batches an epoch has."""
        return -(-len(self.size) // batch)

    def batches(self, batch: int, generator: Generator) -> Iterator[Batch]:
        """Yield every history once, in a random order, those of like length together."""
        drawn: list[Tensor] = []
        if not len(self.size):
            return
        for pool in torch.randperm(len(self.size), generator=generator).split(_POOL * batch):
            ordered = pool[self.size[pool].clamp(max=self.length).argsort(stable=True)]
            drawn += ordered.split(batch)
        for place in torch.randperm(len(drawn), generator=generator).tolist():
            yield self._cut(drawn[place])

    def _cut(self, rows: Tensor) -> Batch:
        size = self.size[rows]
        first = (size - self.length).clamp(min=0)
        step = torch.arange(int(size.clamp(max=self.length).max()))
        mask = step < (size - first).unsqueeze(1)
        place = (self.start[rows] + first).unsqueeze(1) + step
        return Batch(self.item[place * mask] * mask, mask, first == 0)


def class_loss(states: Tensor, table: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    """Return the mean over positions of -log softmax(states @ table.T + bias) at the target.

    Args:
        states: [P, D].
        table: [C, D].
        bias: [C].
        target: int64 [P] in 0 .. C - 1.

    """
    return cast(Tensor, _ClassLoss.apply(states, table, bias, target))


def dropped(states: Tensor, share: float, generator: Generator) -> Tensor:
    """Return the states with a share of them 0 and the others scaled up, by 256ths.

    A byte of a random number decides on each: an eighth of the cost of a draw for each.
    """
    least = round(256 * share)
    numbers = torch.empty(-(-states.numel() // 8), dtype=torch.int64)
    numbers.random_(-(2**63), None, generator=generator)
    kept = numbers.view(torch.uint8)[: states.numel()].view(states.shape) >= least
    return states * kept.to(states.dtype).mul_(256 / (256 - least))


def sampled_classes(
    target: Tensor, share: Tensor, sample: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Return items that stand for a catalogue, int64 [C] ascending, and what corrects scores [C].

    They are the targets [P] and `sample` items drawn uniformly. The log-probability that an item is
    among them is to be subtracted from its score: what is rarely drawn stands for more.
    """
    drawn = torch.randint(len(share), (sample,), generator=generator)
    items = torch.unique(torch.cat([target, drawn]))
    missed = torch.log1p(-share[items].clamp(max=1 - 1e-6)) * len(target)
    missed = missed + sample * torch.log1p(torch.tensor(-1 / len(share)))
    return items, torch.log(-torch.expm1(missed).clamp(max=-1e-12))


class _ClassLoss(torch.autograd.Function):
    """The loss with its gradients, made together: scores are never all held in memory."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        total = states.new_zeros(())
        by_table, by_bias = torch.zeros_like(table), torch.zeros_like(bias)
        by_states = torch.empty_like(states)
        for begin in range(0, len(states), _ROWS):
            rows = slice(begin, begin + _ROWS)
            own, wanted = states[rows], target[rows].unsqueeze(1)
            share = torch.softmax(torch.addmm(bias, own, table.T), 1)
            chosen = share.gather(1, wanted)
            total -= chosen.clamp(min=torch.finfo(share.dtype).tiny).log().sum()
            share.scatter_(1, wanted, chosen - 1)
            by_states[rows] = share @ table
            by_table.addmm_(share.T, own)
            by_bias += share.sum(0)
        ctx.save_for_backward(by_states, by_table, by_bias)
        ctx.count = max(len(states), 1)
        return total / ctx.count

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (grad,) = upstream
        scale = grad / ctx.count
        by_states, by_table, by_bias = ctx.saved_tensors
        return by_states * scale, by_table * scale, by_bias * scale, None
