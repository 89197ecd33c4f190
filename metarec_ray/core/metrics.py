"""Metrics of ranked lists, many tasks at once.

Knows scores and relevance; does not know which learner gave the scores or how tasks were cut.
Predicted labels are judged by `core.label_metrics`.

Axes: T tasks, I candidates (a catalogue or the items of a query), K the length of the ranked lists.
Metrics return one value for each task [T]; the mean over tasks is the caller's. Ties are broken at
random with a seeded generator, so that a constant scorer gets the value of a random order, not that
of the order of the file.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from metarec_ray.errors import DataError

AS_THEY_ARE = (0.0, 10.0)  # labels within this range have gain 0 at label 0
LONGEST = 60  # range of labels: sums of gains up to 2^60 stay well within float32


class Ranked(NamedTuple):
    """The first K candidates of each task, best first, and the gains of the best possible list."""

    item: Tensor  # int64 [T, K]: columns of the score matrix
    gain: Tensor  # float [T, K]: gains of those candidates
    ideal: Tensor  # float [T, K]: the K largest gains among the candidates, descending
    relevant: Tensor  # float [T]: candidates with a gain > 0


def graded(label: Tensor, scale: tuple[float, float] | None = None) -> Tensor:
    """Return the gain 2^label - 1 of a graded label (a rating), >= 0.

    If the scale lies within 0 to 10, labels are taken as they are. Otherwise its lowest label is
    subtracted first, and so has gain 0.

    Args:
        label: of any shape; labels below the scale have gain 0.
        scale: lowest and highest label of training; None for labels to be taken as they are.

    Raises:
        DataError: the scale is too long for gains in float32.

    """
    low, high = scale if scale is not None else AS_THEY_ARE
    if high - low > LONGEST:
        raise DataError(
            f"labels must span <= {LONGEST} for a gain of 2^label - 1, got {low:g} to {high:g} "
            "(data.feedback: explicit, implicit takes them for positives)"
        )
    lowest = 0.0 if AS_THEY_ARE[0] <= low and high <= AS_THEY_ARE[1] else low
    return torch.exp2((label - lowest).clamp(0, LONGEST)) - 1


def rank(
    scores: Tensor,
    gains: Tensor,
    *,
    depth: int,
    generator: torch.Generator,
    candidates: Tensor | None = None,
) -> Ranked:
    """Return the `depth` best candidates of each task.

    Args:
        scores: [T, I]; NaN is an error, infinities are ordered.
        gains: [T, I], >= 0, of the candidates: 1 for a positive, or `graded`.
        depth: length of the list, at most every task's number of candidates. Of a list of all
            candidates only the order says something: hit rate, recall and precision are given.
        generator: breaks ties.
        candidates: bool [T, I]; None for all.

    """
    if candidates is None:
        candidates = torch.ones_like(scores, dtype=torch.bool)
    _check(scores, candidates, depth)
    index = _top(scores.masked_fill(~candidates, -torch.inf), candidates, depth, generator)
    gains = torch.where(candidates, gains, torch.zeros_like(gains))
    relevant = (gains > 0).sum(1).to(gains.dtype)
    return Ranked(index, gains.gather(1, index), gains.topk(depth, 1).values, relevant)


def ndcg(ranked: Ranked, k: int) -> Tensor:
    """Return the discounted cumulative gain of the first k over that of the best order.

    [Jarvelin & Kekalainen, 2002]. A task without a relevant candidate is an error.
    """
    gain, ideal = _first(ranked.gain, k), _first(ranked.ideal, k)
    weight = discount(torch.arange(k, dtype=gain.dtype))
    best = ideal @ weight
    _check_relevant(best)
    return (gain @ weight) / best


def ndcg_of_positives(positives: Tensor, scores: Tensor, *, mask: Tensor, k: int) -> Tensor:
    """Return the NDCG@k [*T] of `positives` [*T, Q] among `scores` [*T, S], which hold them.

    The metric of every training step: faster than `rank` and `ndcg`, with a gain of 1 for each
    positive in `mask` and no generator. Ties take their mean position and NaN takes the last one,
    so that a learner that has collapsed does not look perfect.
    """
    # The best 2k + 1 tell every position below k: what ties with the last of them, g places from
    # the top, has a mean position of at least g + (2k - g) / 2. To topk, NaN is the greatest.
    best = scores.topk(min(2 * k + 1, scores.shape[-1]), sorted=False).values.unsqueeze(-2)
    above = (~(best <= positives.unsqueeze(-1))).sum(-1)
    equal = (best == positives.unsqueeze(-1)).sum(-1)
    position = above + (equal - 1) / 2
    gain = torch.where(mask & (position < k), discount(position), 0.0).sum(-1)
    place = torch.arange(positives.shape[-1])
    found = place < mask.sum(-1, keepdim=True).clamp(max=k)
    ideal = torch.where(found, discount(place), 0.0).sum(-1)
    return gain / ideal.clamp(min=1e-9)


def discount(position: Tensor) -> Tensor:
    """Return what a gain counts at a position, 1 / log2(2 + position); the first position is 0.

    The mean position of ties may lie between two.
    """
    return 1 / torch.log2(position + 2.0)


def hit_rate(ranked: Ranked, k: int) -> Tensor:
    """Return 1 where a relevant candidate is among the first k, else 0."""
    return (_first(ranked.gain, k) > 0).any(1).to(ranked.gain.dtype)


def recall(ranked: Ranked, k: int) -> Tensor:
    """Return the share of the relevant candidates that is among the first k."""
    _check_relevant(ranked.relevant)
    return (_first(ranked.gain, k) > 0).sum(1) / ranked.relevant


def precision(ranked: Ranked, k: int) -> Tensor:
    """Return the share of the first k that is relevant."""
    return (_first(ranked.gain, k) > 0).sum(1) / k


def reciprocal_rank(ranked: Ranked, k: int) -> Tensor:
    """Return 1 / position of the first relevant candidate, 0 where it is not among the first k."""
    hit = (_first(ranked.gain, k) > 0).to(ranked.gain.dtype)
    return (hit / torch.arange(1, k + 1, dtype=hit.dtype)).max(1).values


def average_precision(ranked: Ranked, k: int) -> Tensor:
    """Return the mean precision at the positions of the relevant among the first k.

    The sum of precisions is divided by the smaller of k and the number of relevant candidates. The
    mean over tasks is MAP@k.
    """
    _check_relevant(ranked.relevant)
    hit = (_first(ranked.gain, k) > 0).to(ranked.gain.dtype)
    precisions = hit.cumsum(1) / torch.arange(1, k + 1, dtype=hit.dtype)
    return (precisions * hit).sum(1) / ranked.relevant.clamp(max=k)


def coverage(ranked: Ranked, k: int, *, catalogue: int) -> float:
    """Return the share of the `catalogue` items that are among the first k of some task."""
    return _first(ranked.item, k).unique().numel() / catalogue


def novelty(ranked: Ranked, k: int, *, share: Tensor) -> Tensor:
    """Return the mean of -log2 share[item] over the first k.

    `share` [I] > 0 is the share of training users that met an item.
    """
    return -torch.log2(share)[_first(ranked.item, k)].mean(1)


def popularity(ranked: Ranked, k: int, *, share: Tensor) -> Tensor:
    """Return the mean of share[item] over the first k; `share` [I] as in `novelty`, or 0."""
    return share[_first(ranked.item, k)].mean(1)


def diversity(ranked: Ranked, k: int, *, vectors: csr_array) -> Tensor:
    """Return the intra-list distance: the mean of 1 - cosine over the pairs of the first k >= 2.

    [Ziegler et al., 2005]. Items without a vector are at distance 1 from every other.

    Args:
        ranked: lists.
        k: their length.
        vectors: [I, D], of the items' features; each row has norm 1 or 0.

    """
    shown = _first(ranked.item, k)
    starts = np.arange(0, shown.numel() + 1, k)
    member = (np.ones(shown.numel(), np.float32), shown.flatten().numpy(), starts)
    total = csr_array(csr_array(member, shape=(len(shown), len(vectors.indptr) - 1)) @ vectors)
    norms = vectors.power(2).sum(1)[shown.numpy()].sum(1)
    # The squared norm of a sum of vectors contains every pair twice.
    return 1 - torch.from_numpy((total.power(2).sum(1) - norms) / (k * (k - 1))).to(torch.float32)


def _check(scores: Tensor, candidates: Tensor, depth: int) -> None:
    unusable = scores.isnan() & candidates
    if unusable.any():
        row = int(unusable.any(1).nonzero()[0])
        raise DataError(f"a score must be a number, got NaN (task {row} of the score matrix)")
    fewest = int(candidates.sum(1).min())
    if depth > fewest:
        raise DataError(
            f"the top k needs k <= number of candidates, got k {depth} of {fewest} candidates"
        )


def _check_relevant(amount: Tensor) -> None:
    if (amount <= 0).any():
        row = int((amount <= 0).nonzero()[0])
        raise DataError(
            f"a task needs a candidate with a gain > 0, got none (task {row} of the gains)"
        )


def _first(ranked: Tensor, k: int) -> Tensor:
    depth = ranked.shape[1]
    if not 1 <= k <= depth:
        raise DataError(f"k must lie in 1..{depth}, the length of the ranked lists, got {k}")
    return ranked[:, :k]


def _top(scores: Tensor, candidates: Tensor, depth: int, generator: torch.Generator) -> Tensor:
    # Only ties inside the list and at its edge matter: a full sort with a random second key would
    # cost ten times as much.
    noise = torch.rand(scores.shape, generator=generator)
    edge = scores.topk(depth, 1).values[:, -1:]
    entry = torch.where(scores > edge, 2.0, torch.where(scores == edge, noise, -1.0))
    chosen = entry.masked_fill(~candidates, -2.0).topk(depth, 1).indices
    chosen = chosen.gather(1, noise.gather(1, chosen).argsort(1))
    order = scores.gather(1, chosen).argsort(dim=1, descending=True, stable=True)
    return chosen.gather(1, order)
