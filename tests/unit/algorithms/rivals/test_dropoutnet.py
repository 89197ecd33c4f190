import torch

from metarec_ray.algorithms.base import Fitting
from metarec_ray.algorithms.problem import no_problem
from metarec_ray.algorithms.rivals.dropoutnet import DropoutNet, _drawn
from metarec_ray.core.batch import Features, FieldSpan, SideInformation, nothing_known
from metarec_ray.core.histories import Histories
from tests.unit.algorithms.rivals.small import liked, scores, support, tastes

SMALL = DropoutNet(factors=4, hidden=8, epochs=30, batch=16, learning_rate=0.02, unobserved=0.1)


def halves(data: Histories) -> Histories:
    """Tell what half of the catalogue every user keeps to, and every item belongs to."""

    def side(n: int) -> SideInformation:
        half = (torch.arange(n) % 2 + 1).unsqueeze(1)
        features = Features(half, torch.ones(n, 1), torch.zeros(n, 0))
        return SideInformation(features, (FieldSpan("half", True, 1, 3),), 3)

    return data._replace(users=side(len(data.offsets) - 1), items=side(data.n_items))


def test_a_user_is_the_network_at_the_shrunk_mean_vector_of_the_support():
    # tanh(mean P + content C + b) O + b_o, without content here, three zero vectors in the mean.
    meta = SMALL.fit(tastes())
    mean = (meta["preference"][2] + meta["preference"][7]) / (2 + 3.0)
    hidden = torch.tanh(mean @ meta["user.preference"] + meta["user.bias"])
    expected = meta["item"] @ (hidden @ meta["user.out"] + meta["user.out_bias"])
    assert torch.allclose(scores(SMALL, meta, liked(2, 7, padding=2)), expected, atol=1e-5)


def test_drawn_items_are_the_users_own_however_many_others_came_before():
    # A float32 holds no odd number above 2^24.
    first = torch.tensor([0, 2**24 + 1, 2**30 + 1])
    draws = torch.tensor([[0.0, 0.5, 1 - 2**-24]]).expand(3, -1)
    found = _drawn(first, torch.tensor([3, 3, 20]), draws) - first.unsqueeze(1)
    assert found.tolist() == [[0, 1, 2], [0, 1, 2], [0, 10, 19]]


def test_dropoutnet_finds_the_half_of_the_catalogue_a_user_keeps_to():
    meta = SMALL.fit(tastes())
    found = scores(SMALL, meta, liked(0, 2, 4))
    assert found[6::2].mean() > found[1::2].mean() + 0.05


def test_an_empty_support_leaves_the_content_of_the_user():
    meta = SMALL.fit(halves(tastes()))
    even = SMALL.adapt(
        no_problem("implicit"), meta, liked(padding=2)._replace(user=torch.tensor([0.0, 1, 0]))
    )
    found = meta["item"] @ even["user"]
    assert found[0::2].mean() > found[1::2].mean() + 0.05


def test_an_item_that_nobody_met_is_known_by_its_content():
    data = tastes()
    meta = SMALL.fit(halves(data._replace(items=nothing_known(26))))
    assert meta["preference"][24:].abs().max() == 0
    given = liked(0, 2, 4)._replace(user=torch.tensor([0.0, 1, 0]))
    found = scores(SMALL, meta, given)
    assert found[24] > found[25] + 0.05


def test_a_disliked_item_is_left_out_of_the_mean():
    learner = SMALL.model_copy(update={"positive_min": 0.5, "epochs": 1})
    meta = learner.fit(tastes())
    given = scores(learner, meta, support((2, 1.0), (7, 0.0)))
    assert torch.allclose(given, scores(learner, meta, liked(2)), atol=1e-6)


def test_a_seed_decides_everything_random():
    short, data = SMALL.model_copy(update={"epochs": 2}), tastes()
    one, again, other = (short.fit(data, Fitting(seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["item"], other["item"])
    assert not any(value.requires_grad for value in one.values())
