import pytest
import torch

from metarec_ray.algorithms.base import Fitting
from metarec_ray.algorithms.rivals.lightgcn import (
    LightGcn,
    Nodes,
    Pairs,
    convolved,
    graph_of,
    mean_layer,
)
from tests.unit.algorithms.rivals.small import clicks, liked, scores, support, tastes

SMALL = LightGcn(factors=8, steps=60, batch=128, learning_rate=0.1)
# User 0 met items 0 and 1, user 1 met item 1, user 2 nothing; item 2 was met by nobody.
EDGES = (torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))


def test_a_layer_is_the_sum_over_neighbours_by_the_roots_of_both_degrees():
    start = Nodes(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[4.0], [5.0], [6.0]]))
    layers = convolved(start, graph_of(*EDGES, 3, 3), 2)
    # Degrees are 2, 1, 0 and 1, 2, 0.
    user = [4 / (2 * 1) ** 0.5 + 5 / (2 * 2) ** 0.5, 5 / (1 * 2) ** 0.5, 0]
    item = [1 / (2 * 1) ** 0.5, 1 / (2 * 2) ** 0.5 + 2 / (1 * 2) ** 0.5, 0]
    assert layers[1].user.flatten().tolist() == pytest.approx(user)
    assert layers[1].item.flatten().tolist() == pytest.approx(item)
    second = [item[0] / 2**0.5 + item[1] / 2, item[1] / 2**0.5, 0]
    assert layers[2].user.flatten().tolist() == pytest.approx(second)
    mean = mean_layer(start, graph_of(*EDGES, 3, 3), 2).user
    assert mean[0].item() == pytest.approx((1 + user[0] + second[0]) / 3)


def random_graph(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    met = torch.rand(6, 5, generator=torch.Generator().manual_seed(seed)) < 0.5
    user, item = met.nonzero().unbind(1)
    return user, item


def test_the_gradient_is_that_of_the_loss():
    user, item = random_graph()
    graph, learner = graph_of(user, item, 6, 5), LightGcn(factors=3, layers=2, penalty=0.1)
    drawn = torch.Generator().manual_seed(1)
    start = Nodes(*(torch.randn(n, 3, generator=drawn).requires_grad_() for n in (6, 5)))
    pairs = Pairs(user, item, torch.randint(5, item.shape, generator=drawn))
    met = user * 5 + item
    # The same by a dense matrix and automatic derivatives.
    edges = torch.zeros(11, 11)
    edges[user, 6 + item] = edges[6 + item, user] = graph.weight.user
    table = torch.cat(list(start))
    final = (table + edges @ table + edges @ edges @ table) / 3
    valid = [key not in met.tolist() for key in (user * 5 + pairs.other).tolist()]
    loss = torch.zeros(())
    for u, i, j, counts in zip(*(one.tolist() for one in pairs), valid, strict=True):
        if counts:
            apart = final[u] @ (final[6 + i] - final[6 + j])
            size = sum(table[node].square().sum() for node in (u, 6 + i, 6 + j))
            loss = loss - torch.nn.functional.logsigmoid(apart) + 0.1 * size / 2
    expected = torch.autograd.grad(loss / len(user), list(start))
    found = learner.gradient(start, graph, pairs, met)
    assert 0 < sum(valid) < len(valid)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_new_user_is_convolved_as_a_user_without_a_layer_0():
    # As if user 2 of three had joined the graph after training: items keep their own degrees.
    learner = LightGcn(factors=4, layers=2, steps=5, batch=8)
    data = clicks([0, 1], [1, 2], [3], n_items=5)
    meta = learner.fit(data)
    given = learner.adapt(None, meta, liked(1, 3, 1, padding=1))  # type: ignore[arg-type]
    by_hand = (meta["given"][1] + meta["given"][3]) / 2**0.5
    assert torch.allclose(given["user"], by_hand)
    assert torch.equal(meta["given"][4], torch.zeros(4))


def test_the_layers_that_a_new_user_is_given_are_those_below_the_last():
    learner = LightGcn(factors=4, layers=1, steps=1, batch=8, learning_rate=1e-9)
    meta = learner.fit(clicks([0, 1], [1], n_items=3), Fitting(seed=3))
    drawn = torch.Generator().manual_seed(3)
    user, item = torch.randn(2, 4, generator=drawn) * 0.1, torch.randn(3, 4, generator=drawn) * 0.1
    # Of layers 0 and 1 only layer 0 of the items reaches a user: half of it, by the root of 2.
    assert torch.allclose(meta["given"][1], item[1] / 2 / 2**0.5, atol=1e-6)
    second = item[1] + user[0] / (2 * 2) ** 0.5 + user[1] / (1 * 2) ** 0.5
    assert torch.allclose(meta["item"][1], second / 2, atol=1e-6)


def test_lightgcn_finds_the_half_of_the_catalogue_a_user_keeps_to():
    data = tastes()

    def in_order(found: torch.Tensor) -> float:
        """Return how often an item of the user's half is ahead of one of the other."""
        return (found[6::2].unsqueeze(1) > found[1::2]).float().mean().item()

    assert in_order(scores(SMALL, SMALL.fit(data), liked(0, 2, 4))) > 0.9
    assert in_order(torch.bincount(data.item, minlength=24).float()) < 0.7


def test_the_loss_falls_with_steps():
    data = tastes()
    user, item = data.entity(), data.item
    met = torch.sort(user * 24 + item).values
    other = torch.randint(24, item.shape, generator=torch.Generator().manual_seed(1))
    valid = ~torch.isin(user * 24 + other, met)

    def loss(steps: int) -> float:
        learner = SMALL.model_copy(update={"steps": steps, "layers": 2})
        meta = learner.fit(data)
        # Users of training are folded in, too, so that nothing but the checkpoint is read.
        total = torch.zeros(())
        for u in range(20):
            own = item[user == u].tolist()
            found = scores(learner, meta, liked(*own))
            mine = (user == u) & valid
            ahead = found[item[mine]] - found[other[mine]]
            total = total - torch.nn.functional.logsigmoid(ahead).sum()
        return total.item()

    values = [loss(steps) for steps in (1, 20, 60)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("positives", "steps"),
    [(0, 0), (1, 1), (300, 37), (12_279, 1_499), (12_280, 1_500), (400_000, 1_500)],
)
def test_a_log_is_passed_over_a_thousand_times_at_most(positives: int, steps: int):
    # 1,000 passes over n positives in batches of 8,192 are 1,000 n / 8,192 steps, rounded up.
    assert LightGcn().steps_of(positives) == steps


def test_without_evidence_the_ranking_is_popularity():
    data = clicks([0, 1, 2], [1, 2], [2], n_items=4)
    learner = LightGcn(factors=2, steps=3, batch=4)
    meta = learner.fit(data)
    for given in (liked(), liked(padding=2), liked(3)):
        found = scores(learner, meta, given)
        assert found.argsort(descending=True).tolist() == [2, 1, 0, 3]


def test_a_disliked_item_is_no_positive():
    learner = SMALL.model_copy(update={"positive_min": 0.5, "steps": 3})
    meta = learner.fit(tastes())
    given = scores(learner, meta, support((2, 1.0), (7, 0.0)))
    assert torch.allclose(given, scores(learner, meta, liked(2)))


def test_a_seed_decides_everything_random():
    learner, data = SMALL.model_copy(update={"steps": 3}), tastes()
    one, again = learner.fit(data, Fitting(seed=1)), learner.fit(data, Fitting(seed=1))
    other = learner.fit(data, Fitting(seed=2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["item"], other["item"])
