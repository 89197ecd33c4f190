"""Weights of what is added up to a ranking, chosen on held-out tasks.

Knows scores and the quality of rankings; does not know which learners gave the scores.

Axes: M parts of a sum, T tasks, I items, K sizes of support that have weights of their own.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metarec_ray.core import metrics
from metarec_ray.errors import NotFinite

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
    """Return the value with the largest mean quality; the first of equals.

    NotFinite if a quality is NaN, which is neither more nor less than another, or infinite.
    """
    return values[_best(torch.stack([quality(value).mean() for value in values]))]


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

    Raises:
        NotFinite: the quality of a sum is NaN or infinite.

    """
    counts, total = torch.zeros(len(parts)), torch.zeros_like(parts[0])
    best, weights = -torch.inf, counts
    for taken in range(1, rounds + 1):
        means = torch.stack([quality((total + part) / taken).mean() for part in parts])
        chosen = _best(means)
        counts[chosen] += 1
        total = total + parts[chosen]
        if means[chosen] > best:
            best, weights = float(means[chosen]), counts / taken
    return weights


def _best(means: Tensor) -> int:
    """Return the position of the largest of mean qualities [N]; the first of equals."""
    wrong = (~means.isfinite()).nonzero().flatten().tolist()
    if wrong:
        raise NotFinite(
            f"a quality to choose by must be finite, number {wrong[0] + 1} of {len(means)} has "
            f"{means[wrong[0]].item()}"
        )
    return int(means.argmax())
