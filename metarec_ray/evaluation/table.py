"""The table of a protocol: one row a method and k, with what is known of its certainty.

Knows per-entity metrics; does not know how a method makes its scores.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from metarec_ray.config import Evaluate
from metarec_ray.core import metrics
from metarec_ray.data.settings import Feedback
from metarec_ray.errors import DataError
from metarec_ray.evaluation.scoring import Method
from metarec_ray.evaluation.statistics import Bootstrap, Interval, bootstrap, holm
from metarec_ray.evaluation.strict import StrictTasks

Value = str | int | float | bool | list[float] | None
Row = dict[str, Value]
_SHOWN, _DEEP = 10, 50  # lengths of the lists that are judged
_TIES = 104_729  # data drawn with the same seed must not meet its own noise again


class Header(NamedTuple):
    """What every row of a table begins with."""

    dataset: str
    feedback: Feedback
    seed: int
    protocol: Literal["strict"] = "strict"


class Measured(NamedTuple):
    """One method at one k."""

    method: Method
    k: int
    ndcg: Tensor  # float [E]: NDCG@10
    gain: float  # mean NDCG@10 minus that of the empty support, same candidates
    values: dict[str, float]
    seconds: float


class Judged(NamedTuple):
    """One method at one k beside the others.

    Attributes:
        measured: itself.
        interval: of its NDCG@10.
        p: of the paired difference to the best rival; None in that rival's own row and without one.
        best: the best rival's name.
        above: whether its mean is above the best rival's.
        chance: whether its interval reaches down to the random floor's.

    """

    measured: Measured
    interval: Interval
    p: float | None
    best: str | None
    above: bool
    chance: bool


def evaluate(
    tasks: StrictTasks,
    methods: Sequence[Method],
    settings: Evaluate,
    *,
    header: Header,
    clock: Callable[[], float],
) -> list[Row]:
    """Return the rows of a table, in the order of `methods`, then of k.

    `p_vs_best_rival` is the two-sided p of the paired difference in NDCG@10 to the rival that is
    best at that k (None in its own row, and without a rival); `better` is decided after Holm's
    correction over every learner and k.

    Args:
        tasks: the entities to judge.
        methods: names must differ.
        settings: of the protocol.
        header: names the table; its seed breaks ties and draws the bootstrap.
        clock: seconds.

    """
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise DataError(f"every method of a table needs a name of its own, got {', '.join(names)}")
    measured = [
        found
        for method in methods
        for found in _measure_all(tasks, method, settings, header, clock)
    ]
    judged: dict[tuple[str, int], Judged] = {}
    for k in settings.ks:
        for one in _judge([found for found in measured if found.k == k], settings, header):
            judged[one.measured.method.name, k] = one
    ordered = [judged[name, k] for name in names for k in settings.ks]
    compared = [one for one in ordered if one.measured.method.kind == "learner"]
    corrected = holm([one.p for one in compared if one.p is not None])
    p_corrected = dict(
        zip([_key(one) for one in compared if one.p is not None], corrected, strict=True)
    )
    return [_row(one, p_corrected.get(_key(one)), header) for one in ordered]


def _measure_all(
    tasks: StrictTasks,
    method: Method,
    settings: Evaluate,
    header: Header,
    clock: Callable[[], float],
) -> list[Measured]:
    prior = method.scores(0)
    return [_measure(tasks, method, prior, k, header, clock) for k in settings.ks]


def _measure(
    tasks: StrictTasks,
    method: Method,
    prior: Tensor,
    k: int,
    header: Header,
    clock: Callable[[], float],
) -> Measured:
    start = clock()
    scores = method.scores(k)
    seconds = clock() - start
    candidates, gains = tasks.candidates(k), tasks.gains()

    def ranked(matrix: Tensor) -> metrics.Ranked:
        # The same draw for every method and k: ties of two rankings fall alike.
        generator = torch.Generator().manual_seed(_TIES + header.seed)
        return metrics.rank(matrix, gains, depth=_DEEP, generator=generator, candidates=candidates)

    found = ranked(scores)
    ndcg = metrics.ndcg(found, _SHOWN)
    before = ndcg if k == 0 else metrics.ndcg(ranked(prior), _SHOWN)
    values = {
        "ndcg@10": ndcg.mean().item(),
        "hr@10": metrics.hit_rate(found, 10).mean().item(),
        "recall@10": metrics.recall(found, 10).mean().item(),
        "recall@50": metrics.recall(found, 50).mean().item(),
        "coverage@10": metrics.coverage(found, 10, catalogue=int(tasks.trained.sum())),
        "novelty": metrics.novelty(found, 10, share=tasks.share).mean().item(),
    }
    return Measured(method, k, ndcg, (ndcg - before).mean().item(), values, seconds)


def _judge(measured: list[Measured], settings: Evaluate, header: Header) -> list[Judged]:
    resampled = bootstrap(
        torch.stack([one.ndcg for one in measured]), resamples=settings.resamples, seed=header.seed
    )
    best, floor = _best_rival(measured), _floor(measured, resampled)
    return [
        Judged(
            measured=one,
            interval=resampled.interval(i),
            p=None if best is None or best == i else resampled.p_value(i, best),
            best=None if best is None else measured[best].method.name,
            above=best is not None and bool(one.ndcg.mean() > measured[best].ndcg.mean()),
            chance=one.method.kind != "floor" and resampled.interval(i).low <= floor,
        )
        for i, one in enumerate(measured)
    ]


def _best_rival(measured: list[Measured]) -> int | None:
    rivals = [i for i, one in enumerate(measured) if one.method.kind == "rival"]
    return max(rivals, key=lambda i: measured[i].values["ndcg@10"], default=None)


def _floor(measured: list[Measured], resampled: Bootstrap) -> float:
    """Return the upper end of the random floor's interval, below every score without a floor."""
    floors = [i for i, one in enumerate(measured) if one.method.kind == "floor"]
    return min((resampled.interval(i).high for i in floors), default=-1.0)


def _key(judged: Judged) -> tuple[str, int]:
    return judged.measured.method.name, judged.measured.k


def _row(judged: Judged, p_corrected: float | None, header: Header) -> Row:
    one = judged.measured
    n = len(one.ndcg)
    return {
        "protocol": header.protocol,
        "dataset": header.dataset,
        "feedback": header.feedback,
        "seed": header.seed,
        "method": one.method.name,
        "kind": one.method.kind,
        "k": one.k,
        "n": n,
        **one.values,
        "ci95": [judged.interval.low, judged.interval.high],
        "p_vs_best_rival": judged.p,
        "p_corrected": p_corrected,
        "best_rival": judged.best,
        "better": judged.above and p_corrected is not None and p_corrected < 0.05,
        "chance": judged.chance,
        "adaptation_gain": one.gain,
        "adapt_ms": 1000 * one.seconds / n,
        "seconds": one.method.fit_seconds + one.seconds,
    }
