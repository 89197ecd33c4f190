"""The paired bootstrap over entities, and corrections for multiple tests.

Knows one value per entity and method; does not know metrics or learners.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.errors import DataError

_CHUNK = 1000  # resamples drawn at a time


class Interval(NamedTuple):
    """A central interval."""

    low: float
    high: float


class Bootstrap(NamedTuple):
    """Means over resampled entities; all M methods share the resamples, so they are paired."""

    means: Tensor  # float64 [M, B]

    def interval(self, method: int, *, level: float = 0.95) -> Interval:
        """Return the percentile interval of a method's mean."""
        tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        low, high = torch.quantile(self.means[method], tails).tolist()
        return Interval(low, high)

    def p_value(self, method: int, other: int) -> float:
        """Return the two-sided p of the difference of two means, at least 2 / (B + 1)."""
        difference = self.means[method] - self.means[other]
        tail = torch.minimum((difference <= 0).sum(), (difference >= 0).sum()).item()
        return min(1.0, 2 * (tail + 1) / (difference.numel() + 1))


def bootstrap(
    values: Tensor, *, resamples: int, seed: int, weight: Tensor | None = None
) -> Bootstrap:
    """Resample entities with replacement.

    Args:
        values: [M, E], one per method and entity.
        resamples: B.
        seed: of the draw; the same seed and E give the same resamples.
        weight: [E] > 0, of entities in the mean; None for equal ones.

    """
    if values.shape[1] == 0:
        raise DataError("a bootstrap needs at least 1 entity, got 0")
    values = values.double()
    weight = torch.ones(values.shape[1]).double() if weight is None else weight.double()
    generator = torch.Generator().manual_seed(seed)
    means = []
    for start in range(0, resamples, _CHUNK):
        shape = (min(_CHUNK, resamples - start), values.shape[1])
        drawn = torch.randint(values.shape[1], shape, generator=generator)
        times = torch.zeros(shape, dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones(shape, dtype=torch.float64)
        )
        times *= weight
        means.append(values @ times.T / times.sum(1))
    return Bootstrap(torch.cat(means, 1))


def entities_needed(
    differences: Tensor, effect: float, *, power: float = 0.8, level: float = 0.05
) -> int | None:
    """Return how many entities a paired test needs to see a mean difference of `effect`.

    n = ((z_(1 - level / 2) + z_power) sd / effect)^2 for a two-sided test [Chow, Shao & Wang, 2008,
    Sample Size Calculations in Clinical Research, 3.1.1]; the standard deviation is that of the
    `differences` [E] of two methods. None where they or the effect are 0, or E is 1.

    >>> entities_needed(torch.tensor([0.1, -0.1, 0.1, -0.1]), 0.05)
    42
    """
    normal = NormalDist()
    spread = differences.double().std().item() if len(differences) > 1 else 0.0
    if not spread or not effect:
        return None
    z = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)
    return math.ceil((z * spread / effect) ** 2)


def bonferroni(p_values: list[float]) -> list[float]:
    """Return each p times the number of comparisons, at most 1."""
    return [min(1.0, p * len(p_values)) for p in p_values]


def holm(p_values: list[float]) -> list[float]:
    """Return the step-down corrected p values [Holm, 1979], in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, worst = [0.0] * len(p_values), 0.0
    for step, i in enumerate(order):
        worst = max(worst, min(1.0, p_values[i] * (len(p_values) - step)))
        corrected[i] = worst
    return corrected
