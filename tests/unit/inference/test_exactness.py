"""Adversarial catalogues: no list is ever wrong, whatever is claimed of a shortlist.

`make test-cases` tries ten thousand; METAREC_CASES sets the number.
"""

import os
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Generator, Tensor

from metarec_ray.algorithms.closed_form.bayesian import BayesianHead
from metarec_ray.algorithms.label_scale import UNCHANGED, LabelScale
from metarec_ray.core.batch import Params
from metarec_ray.inference.predictor import Blend
from metarec_ray.inference.retrieval import Best, Retriever
from metarec_ray.inference.single import Trained
from tests.unit.inference.served import ANY, BY_ID, DIM, ITEMS, clock, served, supports

CASES = int(os.environ.get("METAREC_CASES", "60"))
UNIT_ROUNDOFF = 2.0**-24
HIDDEN = ((), (), (6,), (6, 5))

Trap = Callable[[Tensor, Tensor, Generator], Tensor]


def power(generator: Generator, low: float, high: float) -> float:
    return 10 ** (low + (high - low) * torch.rand((), generator=generator).item())


def normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def some(generator: Generator) -> Tensor:
    return torch.randint(ITEMS, (5,), generator=generator)


def plain(vectors: Tensor, query: Tensor, rng: Generator) -> Tensor:
    return vectors


def outlier(vectors: Tensor, query: Tensor, rng: Generator) -> Tensor:
    """The best items have an entry that no user looks at, and that takes all digits."""
    rows, column = some(rng), int(torch.randint(DIM, (), generator=rng))
    vectors[rows] += query * 3 / query.norm()
    query[column] = 0
    vectors[rows, column] = power(rng, 0, 7)
    return vectors


def uneven(vectors: Tensor, query: Tensor, rng: Generator) -> Tensor:
    """Columns differ by orders of magnitude, and the query looks at the small ones."""
    scale = torch.exp(3 * normal(rng, DIM))
    query /= scale
    return vectors * scale


def flat(vectors: Tensor, query: Tensor, rng: Generator) -> Tensor:
    """Vectors lie in a plane that the query hardly leaves."""
    plane = normal(rng, 2, DIM)
    return vectors @ plane.T @ plane + power(rng, -6, 0) * vectors


def far(vectors: Tensor, query: Tensor, rng: Generator) -> Tensor:
    return vectors + power(rng, 0, 5) * normal(rng, DIM)


def close(vectors: Tensor, query: Tensor, rng: Generator) -> Tensor:
    """Many items are as good but for the last digits."""
    copies = vectors[torch.randint(30, (ITEMS,), generator=rng)]
    return copies * (1 + power(rng, -9, -2) * normal(rng, ITEMS, 1))


def long(vectors: Tensor, query: Tensor, rng: Generator) -> Tensor:
    """Some items are much longer than others."""
    return vectors * torch.exp(4 * normal(rng, ITEMS, 1))


def tiny(vectors: Tensor, query: Tensor, rng: Generator) -> Tensor:
    return vectors * power(rng, -35, -20)


TRAPS: tuple[Trap, ...] = (plain, outlier, uneven, flat, far, close, long, tiny)


def trapped(case: int) -> Trained:
    """A head over a catalogue that is made to fool bounds."""
    rng = Generator().manual_seed(case)
    made = served(BayesianHead(), hidden=HIDDEN[case // len(TRAPS) % len(HIDDEN)])
    query = normal(rng, DIM) * power(rng, -2, 2)
    vectors = TRAPS[case % len(TRAPS)](normal(rng, ITEMS, DIM), query, rng)
    offset = normal(rng, ITEMS) * power(rng, -6, 1) * float(case % 3 > 0)
    made.items = made.items._replace(vector=vectors, offset=offset)
    made.label_scale = LabelScale(3.0, 1.1) if case % 7 == 3 else UNCHANGED
    made.meta["user.tokens"] = torch.zeros_like(made.meta["user.tokens"])
    weight = made.meta["head.out.weight"].clone()
    weight[-DIM:] = query
    made.meta["head.out.weight"] = weight
    return made


def layers(params: Params) -> int:
    return sum(name.endswith(".item") and name.startswith("head.") for name in params)


def in_double(made: Trained) -> tuple[Tensor, Tensor]:
    """The scores [I] of a user with no event, and what float32 may make them be off by."""
    p = {n: v.double() for n, v in made.meta.items()}
    item, query = made.items.vector.double(), p["head.out.weight"][-DIM:]
    offset = p["offset.scale"] * made.items.offset
    score = item @ query + offset + p["head.out.bias"]
    terms = item.abs() @ query.abs() + offset.abs() + p["head.out.bias"].abs()
    units, sums = item, item.abs()
    for number in range(layers(p)):
        weight, bias = p[f"head.{number}.item"], p[f"head.{number}.bias"]
        units = (units @ weight + bias).relu()
        sums = sums @ weight.abs() + bias.abs()
    if layers(p):
        last = p["head.out.weight"][:-DIM]
        score, terms = score + units @ last, terms + sums @ last.abs()
    off = (DIM + 8) * (1 + layers(p)) * UNIT_ROUNDOFF * terms + 1e-36
    mean, std = made.label_scale
    score = std * score + mean
    restored = made.label_scale != UNCHANGED
    return score, std * off + restored * 4 * UNIT_ROUNDOFF * (score.abs() + abs(mean))


def is_right(found: Best, score: Tensor, off: Tensor, k: int) -> bool:
    """Whether no item that is left out, or stands behind another, is better beyond rounding."""
    rows = found.rows
    rest = torch.ones(ITEMS, dtype=torch.bool)
    rest[rows] = False
    best_left = (score - off)[rest].max()
    ordered = all((score - off)[b] <= (score + off)[a] for a, b in pairwise(rows.tolist()))
    return len(set(rows.tolist())) == k and ordered and bool(best_left <= (score + off)[rows].min())


@pytest.mark.timeout(60 + CASES)
def test_no_list_is_wrong_in_adversarial_catalogues() -> None:
    nobody, certain = supports(1), 0
    for case in range(CASES):
        made, k = trapped(case), (1, 10, 100)[case % 3]
        predictor, (score, off) = made, in_double(made)
        if case % 5 == 4:
            other = trapped(case + 1)
            parts = ((score, off), in_double(other))
            predictor = Blend([made, other], torch.tensor([[0.7, 0.4]]), torch.zeros(1), "explicit")
            score = 0.7 * parts[0][0] + 0.4 * parts[1][0]
            off = torch.stack([4 * UNIT_ROUNDOFF * p[0].abs() + p[1] for p in parts]).sum(0)
        retriever = Retriever(predictor, ANY, BY_ID, clock=clock(low=case // 2 % 2 == 0))
        (found,) = retriever.best(nobody, k, exclude_seen=True)
        assert is_right(found, score, off, k), f"case {case}"
        certain += len(retriever.shortlisted(nobody, k, exclude_seen=True))
    # Where everything is scored there is nothing to get wrong.
    assert certain >= 0.8 * CASES
