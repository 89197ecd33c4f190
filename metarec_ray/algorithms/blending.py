"""Weights of what is added up to a ranking, chosen on held-out tasks.

Knows scores and the quality of rankings; does not know which learners gave the scores.

Axes: M parts of a sum, T tasks, I items, K sizes of support that have weights of their own.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metarec_ray.core import metrics

DEPTH = 10
"""Weights are chosen by the NDCG of lists of this length."""
POWERS = tuple(2.0 ** (step / 2) for step in range(-6, 15))


def ranking_quality(scores: Tensor, gains: Tensor, *, candidates: Tensor) -> Tensor:
    """Return the NDCG@10 [T] of scores [T, I]; ties are broken by the same draw in every call.

    `gains` [T, I] and bool `candidates` [T, I] are those of `metrics.rank`; of fewer than 10
    candidates all are ranked.
    """
    generator = torch.Generator().manual_seed(0)
    depth = min(DEPTH, int(candidates.sum(1).min()))
    ranked = metrics.rank(scores, gains, depth=depth, generator=generator, candidates=candidates)
    return metrics.ndcg(ranked, depth)


def weights_row(events: Tensor, sizes: Tensor) -> Tensor:
    """Return the row of weights for supports of so many events, int64 [*].

    That of the largest of `sizes` [K], ascending, that is not larger than the support; the first
    row for supports that are smaller than all sizes.
    """
    return ((sizes <= events.unsqueeze(-1)).sum(-1) - 1).clamp(min=0)


def best_of(values: Sequence[float], quality: Callable[[float], Tensor]) -> float:
    """Return the value with the largest mean quality; the first of equals."""
    means = [quality(value).mean().item() for value in values]
    return values[max(range(len(means)), key=means.__getitem__)]


def sharpness(shares: Tensor, query: Tensor, candidates: Tensor) -> float:
    """Return the power of `shares` [T, I], log-probabilities, that makes `query` [T, Q] likeliest.

    Scores of different learners have different scales; probabilities have one. Only `candidates`
    [T, I] share the probability: what is never ranked must not decide.
    """
    ranked = shares.masked_fill(~candidates, -torch.inf)
    return best_of(POWERS, lambda power: torch.log_softmax(power * ranked, 1).gather(1, query))


def select(parts: Tensor, quality: Callable[[Tensor], Tensor], *, rounds: int) -> Tensor:
    """Return the weights [M], multiples of 1 / rounds or coarser, of a greedy forward selection.

    Every round adds, with replacement, the part that makes the mean best; the best round of all is
    kept [Caruana et al., 2004].

    Args:
        parts: [M, T, I], what is added up.
        quality: scores [T, I] -> [T], higher is better.
        rounds: parts taken, at most.

    """
    counts, total = torch.zeros(len(parts)), torch.zeros_like(parts[0])
    best, weights = -torch.inf, counts
    for taken in range(1, rounds + 1):
        means = torch.stack([quality((total + part) / taken).mean() for part in parts])
        chosen = int(means.argmax())
        counts[chosen] += 1
        total = total + parts[chosen]
        if means[chosen] > best:
            best, weights = float(means[chosen]), counts / taken
    return weights
