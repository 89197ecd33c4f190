import torch

from metarec_ray.algorithms.base import Fitting
from metarec_ray.algorithms.rivals.bpr import Bpr
from tests.unit.algorithms.rivals.small import clicks, liked, scores, support, tastes

SMALL = Bpr(factors=4, epochs=30, references=64)


def test_one_pair_moves_its_vectors_by_the_gradient():
    # One user met item 0, and seed 2 compares it with item 1: d log sigmoid(x) / dx is sigmoid(-x),
    # x = w . (q_0 - q_1) + b_0 - b_1.
    learner = Bpr(factors=2, epochs=1, learning_rate=0.5, penalty=0.1)
    generator = torch.Generator().manual_seed(2)
    w = torch.randn(1, 2, generator=generator)[0] * 0.1
    q = torch.randn(2, 2, generator=generator) * 0.1
    meta = learner.fit(clicks([0], n_items=2), Fitting(seed=2))
    wrong = torch.sigmoid(-(w @ (q[0] - q[1])))
    assert torch.allclose(meta["bias"], 0.5 * torch.stack([wrong, -wrong]))
    assert torch.allclose(meta["item"][0], q[0] + 0.5 * (wrong * w - 0.1 * q[0]), atol=1e-6)
    assert torch.allclose(meta["item"][1], q[1] + 0.5 * (-wrong * w - 0.1 * q[1]), atol=1e-6)
    assert torch.allclose(meta["mean"], w + 0.5 * (wrong * (q[0] - q[1]) - 0.1 * w), atol=1e-6)


def test_a_new_user_is_the_maximum_of_the_posterior():
    # sum over positives of the mean over references j != i of log sigmoid(x_ij)
    # - prior / 2 |u - mean|^2 has no gradient there.
    meta = SMALL.fit(tastes())
    u = SMALL.adapt(None, meta, liked(2, 7, padding=1))["user"].double()  # type: ignore[arg-type]
    u.requires_grad_()
    likelihood = torch.zeros((), dtype=torch.float64)
    for i in (2, 7):
        others = [j for j in meta["reference"].tolist() if j != i]
        apart = (meta["item"][i] - meta["item"][others]).double()
        ahead = (meta["bias"][i] - meta["bias"][others]).double()
        likelihood += torch.nn.functional.logsigmoid(apart @ u + ahead).mean()
    value = likelihood - 0.5 * SMALL.prior * (u - meta["mean"].double()).square().sum()
    (gradient,) = torch.autograd.grad(value, u)
    assert gradient.abs().max() < 1e-5


def test_a_new_user_is_found_among_items_of_any_length():
    # Whole Newton steps overshoot here: they end below where they start.
    drawn = torch.Generator().manual_seed(0)
    meta = {
        "item": 4 * torch.randn(200, 8, generator=drawn),
        "bias": torch.randn(200, generator=drawn),
        "mean": torch.randn(8, generator=drawn) / 2,
        "reference": torch.arange(100, 164),
    }
    learner, met = Bpr(factors=8, references=64), [1, 2, 3]

    def objective(u: torch.Tensor) -> float:
        apart = meta["item"][met][:, None] - meta["item"][meta["reference"]]
        ahead = meta["bias"][met][:, None] - meta["bias"][meta["reference"]]
        likelihood = torch.nn.functional.logsigmoid(apart @ u + ahead).mean(1).sum()
        return float(likelihood - 0.5 * learner.prior * (u - meta["mean"]).square().sum())

    found = learner.adapt(None, meta, liked(*met))["user"]  # type: ignore[arg-type]
    values = [objective(found + step) for step in torch.cat([torch.eye(8), -torch.eye(8)]) / 20]
    assert objective(found) > objective(meta["mean"])
    assert objective(found) >= max(values) - 1e-3


def test_an_empty_support_ranks_for_the_mean_user():
    meta = SMALL.fit(tastes())
    expected = meta["item"] @ meta["mean"] + meta["bias"]
    assert torch.allclose(scores(SMALL, meta, liked()), expected)
    assert torch.allclose(scores(SMALL, meta, liked(padding=2)), expected)


def test_bpr_finds_the_half_of_the_catalogue_a_user_keeps_to():
    meta = SMALL.fit(tastes())
    found = scores(SMALL, meta, liked(0, 2, 4))
    assert found[6::2].mean() > found[1::2].mean() + 0.5


def test_a_disliked_item_is_no_positive():
    learner = SMALL.model_copy(update={"positive_min": 0.5})
    meta = learner.fit(tastes())
    given = scores(learner, meta, support((2, 1.0), (7, 0.0)))
    assert torch.allclose(given, scores(learner, meta, liked(2)), atol=1e-6)


def test_a_seed_decides_everything_random():
    data, one = tastes(), SMALL.fit(tastes(), Fitting(seed=1))
    again, other = SMALL.fit(data, Fitting(seed=1)), SMALL.fit(data, Fitting(seed=2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["item"], other["item"])
