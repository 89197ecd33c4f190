"""The paired bootstrap over entities and seeds, and the correction for many comparisons.

Knows the values of methods; does not know metrics or learners.

A resampled mean is that of entities drawn with replacement, seeds averaged, plus what another draw
of seeds would change. As seeds are few, and intervals from S of S drawn with replacement too
narrow, that is a draw from Student's t with S - 1 degrees of freedom, times the standard error of
the seeds' means: for normal means its interval over seeds alone is exact. Both parts hold the noise
of an entity under a seed, so together they are rather too wide, as in any bootstrap over rows and
columns [Owen, 2007, Annals of Applied Statistics 1(2)]. A single seed has no spread, and adds none.

Axes: M methods, S seeds of a method, E entities, B resamples.
"""

import math
import zlib
from collections.abc import Sequence
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


class Sample(NamedTuple):
    """The values of one method.

    Attributes:
        values: float [S, E]; NaN where an entity has none.
        weight: float [S, E] > 0, of an entity in the mean of a seed.
        seeds: of the rows. Methods with the same seeds are paired by them.

    """

    values: Tensor
    weight: Tensor
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, values: Tensor, weight: Tensor | None = None) -> "Sample":
        """Return the sample of one seed; `values` are [E], `weight` is None for equal ones."""
        weight = torch.ones_like(values) if weight is None else weight
        return cls(values[None], weight[None], (0,))

    def known(self) -> Tensor:
        """Return bool [S, E]: where there is a value."""
        return ~self.values.isnan()

    def levels(self) -> Tensor:
        """Return the mean of each seed over its entities with a value, float64 [S]."""
        mass = self._mass()
        return (mass * self.values.nan_to_num().double()).sum(1) / mass.sum(1)

    def mean(self) -> float:
        """Return the mean over seeds of their means; NaN if there is no value at all."""
        return self.levels().nanmean().item()

    def at(self, entities: Tensor) -> "Sample":
        """Return the sample of the entities bool [E]."""
        return self._replace(values=self.values[:, entities], weight=self.weight[:, entities])

    def _mass(self) -> Tensor:
        """Return the weight in the mean, float64 [S, E]: 0 where there is no value."""
        return torch.where(self.known(), self.weight.double(), 0.0)

    def _rows(self) -> tuple[Tensor, Tensor]:
        """Return weights and weighted values, float64 [R, E]; R is 1 if seeds weigh alike."""
        mass = self._mass()
        total = mass * self.values.nan_to_num().double()
        if torch.equal(mass, mass[:1].expand_as(mass)):
            return mass[:1], total.mean(0, keepdim=True)
        return mass, total


class Bootstrap(NamedTuple):
    """Means over resampled entities and seeds; methods share the draws, so they are paired."""

    samples: Sequence[Sample]
    means: Tensor  # float64 [M, B]; NaN where no entity of a resample has a value
    seed: int

    def interval(self, method: int, *, level: float = 0.95) -> Interval:
        """Return the percentile interval of a method's mean."""
        tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        low, high = torch.nanquantile(self.means[method], tails).tolist()
        return Interval(low, high)

    def p_value(self, method: int, other: int) -> float:
        """Return the two-sided p of the difference of two means, at least 2 / (B + 1).

        It is of the entities that both have values for.
        """
        pair = self.samples[method], self.samples[other]
        both, resamples = shared(*pair), self.means.shape[1]
        means = self.means[[method, other]]
        if both is not None:
            asked = [one.at(both) for one in pair]
            means = bootstrap(asked, resamples=resamples, seed=self.seed).means
        difference = means[0] - means[1]
        tail = torch.minimum((difference <= 0).sum(), (difference >= 0).sum()).item()
        return min(1.0, 2 * (tail + 1) / (resamples + 1))


def shared(one: Sample, other: Sample) -> Tensor | None:
    """Return bool [E]: entities that both have a value for with every seed.

    None if both have values for the same entities anyway.
    """
    known = one.known(), other.known()
    if all(of.all() for of in known) or (one.seeds == other.seeds and torch.equal(*known)):
        return None
    return known[0].all(0) & known[1].all(0)


def bootstrap(samples: Sequence[Sample], *, resamples: int, seed: int) -> Bootstrap:
    """Resample the entities of all samples, and the seeds of each.

    Args:
        samples: of M methods, over the same E entities.
        resamples: B.
        seed: of the draw; the same seed, E and seeds of a method give the same resamples.

    """
    if samples[0].values.shape[1] == 0:
        raise DataError("a bootstrap needs at least 1 entity, got 0")
    means = _of_entities(samples, resamples, seed) + _of_other_seeds(samples, resamples, seed)
    return Bootstrap(samples, means, seed)


def bootstraps(groups: Sequence[Sequence[Sample]], *, resamples: int, seed: int) -> list[Bootstrap]:
    """Return the bootstrap of each group; those of as many entities cost one draw together."""
    alike: dict[int, list[int]] = {}
    for place, samples in enumerate(groups):
        alike.setdefault(samples[0].values.shape[1], []).append(place)
    found: dict[int, Bootstrap] = {}
    for places in alike.values():
        every = [one for place in places for one in groups[place]]
        means = bootstrap(every, resamples=resamples, seed=seed).means
        parts = means.split([len(groups[place]) for place in places])
        for place, part in zip(places, parts, strict=True):
            found[place] = Bootstrap(groups[place], part, seed)
    return [found[place] for place in range(len(groups))]


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


def _of_entities(samples: Sequence[Sample], resamples: int, seed: int) -> Tensor:
    """Return the means over drawn entities, seeds averaged, float64 [M, B]."""
    entities = samples[0].values.shape[1]
    rows = [one._rows() for one in samples]
    sizes = [len(total) for _, total in rows]
    total = torch.cat([total for _, total in rows])
    # Mostly one row: nobody lacks a value.
    mass, place = torch.cat([mass for mass, _ in rows]).unique(dim=0, return_inverse=True)
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for start in range(0, resamples, _CHUNK):
        shape = (min(_CHUNK, resamples - start), entities)
        chosen = torch.randint(entities, shape, generator=generator)
        times = torch.zeros(shape, dtype=torch.float64).scatter_add_(
            1, chosen, torch.ones(shape, dtype=torch.float64)
        )
        levels = total @ times.T / (mass @ times.T)[place]
        drawn.append(torch.stack([level.mean(0) for level in levels.split(sizes)]))
    return torch.cat(drawn, 1)


def _of_other_seeds(samples: Sequence[Sample], resamples: int, seed: int) -> Tensor:
    """Return what other seeds would change of each mean, float64 [M, B]."""
    drawn: dict[tuple[int, ...], Tensor] = {}
    for one in samples:
        if one.seeds not in drawn:
            drawn[one.seeds] = _contrasts(one.seeds, resamples, seed)
    return torch.stack([one.levels() @ drawn[one.seeds] for one in samples])


def _contrasts(seeds: tuple[int, ...], resamples: int, seed: int) -> Tensor:
    """Return random weights of seeds that add up to 0, float64 [S, B]; 0 for a single seed.

    With g of S independent normals and c of a chi-squared with S - 1 degrees of freedom,
    (g - mean g) / sqrt(S c): the weighted sum of x is sd(x) / sqrt(S) t.
    """
    count = len(seeds)
    if count == 1:
        return torch.zeros(1, resamples, dtype=torch.float64)
    # A draw of their own: who else is in the table must not change it.
    generator = torch.Generator().manual_seed(zlib.crc32(repr((seed, seeds)).encode()))
    shape = (2 * count - 1, resamples)
    normal, freedom = torch.randn(shape, dtype=torch.float64, generator=generator).split(
        [count, count - 1]
    )
    return (normal - normal.mean(0)) / (count * freedom.square().sum(0)).sqrt()
