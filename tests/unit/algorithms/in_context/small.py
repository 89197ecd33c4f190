"""A small model, its parameters and supports, shared by the tests of this folder."""

import pytest
import torch

from metarec_ray.algorithms.in_context.pair_attention import PairAttention
from metarec_ray.algorithms.in_context.recurrent import Recurrent
from metarec_ray.algorithms.in_context.transformer import CausalTransformer
from metarec_ray.algorithms.problem import (
    EncodedItems,
    Support,
    encode_candidates,
    encode_support,
    make_problem,
)
from metarec_ray.core import losses
from metarec_ray.core.parameters import split, values
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.towers import Sides, Towers

SEQUENCES = [
    CausalTransformer(heads=2, layers=2, width=5, max_events=4, prefixes=(0, 1, 3)),
    Recurrent(max_events=4, prefixes=(0, 1, 3)),
]
PAIR = PairAttention(heads=2, width=3)
FEEDBACK = ["explicit", "binary", "implicit"]
ITEMS, DIM = 9, 4
each_sequence = pytest.mark.parametrize("learner", SEQUENCES, ids=lambda one: one.name)
each_learner = pytest.mark.parametrize("learner", [*SEQUENCES, PAIR], ids=lambda one: one.name)
each_feedback = pytest.mark.parametrize("feedback", FEEDBACK)


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def quiet(learner):
    """Return the learner with nothing random in it, not even in training."""
    none = {n: 0.0 for n in type(learner).model_fields if n.endswith("_dropout")}
    return learner.model_copy(update=none)


def parameters(learner, hidden=()):
    side = Side(tokens=3, dense=1)
    model = Towers(dim=DIM, hidden=hidden, init_scale=0.5)
    dense, _ = split(
        model.init(Sides(side, side, side, 1, ITEMS), torch.Generator().manual_seed(1))
    )
    made = dense | values(learner.init(dense, torch.Generator().manual_seed(2)))
    # Fresh scalars are 0: a gradient through them would be seen by nothing.
    moved = {n: 0.3 * random(*p.shape, seed=i) for i, (n, p) in enumerate(made.items())}
    return {n: p.double() + moved[n] for n, p in made.items()}


CATALOGUE = EncodedItems(
    torch.arange(ITEMS),
    random(ITEMS, DIM, seed=3),
    random(ITEMS, seed=4),
    torch.arange(len(torch.arange(ITEMS))),
)
USER, NOW = random(DIM, seed=5), random(1, DIM, seed=6)


def problem(feedback, progress=None, *, begins=True, moved=None):
    """Return a problem; the offset of the item `moved` is another in the reference sample."""
    reference = torch.tensor([0, 2, 5])
    sample = CATALOGUE.at(reference)
    if moved is not None:
        sample = sample._replace(offset=sample.offset + (reference == moved))
    log_q = torch.tensor([-1.0, -0.5, -2.0], dtype=torch.float64)
    begins = torch.tensor(begins)
    return make_problem(feedback, sample, log_q, USER, NOW, progress=progress, begins=begins)


def support_of(items, *, width, labels=None, times=None, feedback="implicit"):
    """Return a support set of `items`, padded to `width` with events that must not matter."""
    real = len(items)
    fresh = {"implicit": [1.0] * real, "binary": [1.0, 0.0] * real, "explicit": [4.0, 1.5] * real}
    labels = fresh[feedback][:real] if labels is None else labels
    times = [40_000_000 * n for n in range(real)] if times is None else times
    padding = width - real
    return encode_support(
        Support(
            CATALOGUE.at(torch.tensor([*items, *[7] * padding], dtype=torch.int64)),
            random(width, DIM, seed=8),
            torch.tensor([*labels, *[99.0] * padding], dtype=torch.float64),
            torch.arange(width) < real,
            torch.tensor([*times, *[1] * padding], dtype=torch.int64),
        ),
        USER,
    )


CANDIDATES = encode_candidates(CATALOGUE, USER, NOW)


def scores(learner, meta, support, feedback="implicit", progress=None):
    asked = problem(feedback, progress)
    return learner.score(asked, meta, learner.adapt(asked, meta, support), CANDIDATES)


def query_loss(feedback, scored=None):
    """Return a query loss over the first two candidates; `scored` collects every score."""
    mask, label = torch.tensor([True, True]), torch.tensor([1.0, 0.0], dtype=torch.float64)

    def loss(score):
        found = score(CANDIDATES)
        if scored is not None:
            scored.append(found)
        if feedback == "implicit":
            return losses.softmax(found[:2], found[2:], mask)
        kind = losses.squared_error if feedback == "explicit" else losses.cross_entropy
        return kind(found[:2], label, mask)

    return loss


def objective(learner, meta, support, feedback, progress=0.5, scored=None):
    asked = problem(feedback, progress)
    return learner.objective(asked, meta, support, support, query_loss(feedback, scored))[0]
