import torch

from metarec_ray.algorithms.in_context.pair_attention import PairAttention
from tests.unit.algorithms.in_context.small import (
    CANDIDATES,
    CATALOGUE,
    PAIR,
    parameters,
    problem,
    scores,
    support_of,
)


def test_pair_attention_sees_ages_but_no_other_order():
    meta = parameters(PAIR)
    forward = support_of([1, 4, 6], width=3)
    order = torch.tensor([2, 0, 1])
    names = ("index", "item", "offset", "label", "age", "mask", "time", "context")
    mixed = forward._replace(**{n: getattr(forward, n)[order] for n in names})
    torch.testing.assert_close(scores(PAIR, meta, mixed), scores(PAIR, meta, forward))
    aged = mixed._replace(age=forward.age)
    assert not torch.allclose(scores(PAIR, meta, aged), scores(PAIR, meta, forward))


def test_pair_attention_is_the_kernel_smoother_written_out():
    learner = PairAttention(heads=1, width=1)
    meta = parameters(learner)
    support = support_of([1, 4], width=2, labels=[5.0, 2.0], feedback="explicit")
    candidate = CATALOGUE.vector[0]
    mass, liked = 0.0, 0.0
    for event in range(2):
        given = support.item[event] + support.context[event]
        over = support.label[event] - support.offset[event]
        near = (candidate @ meta["context.query.weight"]) * (given @ meta["context.key.weight"])
        near = near + meta["context.kernel.bias"] + meta["context.kernel.label"] * over
        rate = torch.log1p(meta["context.kernel.decay"].exp())
        weight = torch.log1p(near.exp()) * torch.exp(-rate * (1 - event))
        mass, liked = mass + weight, liked + weight * over
    shrink = torch.log1p(meta["context.kernel.shrink"].exp())
    shift = meta["context.near"] * torch.log1p(mass / shrink)
    shift = shift + meta["context.liked"] * liked / (mass + shrink)
    expected = problem("explicit").predict(meta, CANDIDATES)[0] + shift.squeeze()
    torch.testing.assert_close(scores(learner, meta, support, "explicit")[0], expected)
