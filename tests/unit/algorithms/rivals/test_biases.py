import pytest
import torch

from metarec_ray.algorithms.problem import no_problem
from metarec_ray.algorithms.rivals.biases import UserItemBias
from tests.unit.algorithms.rivals.small import ratings, support


def test_user_item_bias_solves_its_two_normal_equations():
    data = ratings()
    learner = UserItemBias(item_shrink=3, user_shrink=4)
    meta = learner.fit(data)
    mean, entity = data.label.mean(), torch.arange(60).repeat_interleave(data.lengths())
    dense = torch.zeros(60, 12).index_put_((entity, data.item), data.label - mean)
    met = torch.zeros(60, 12).index_put_((entity, data.item), torch.ones(len(data.item)))
    # One solve of the whole ridge problem: item and user biases together.
    a = torch.zeros(72, 72)
    a[:12, :12], a[12:, 12:] = torch.diag(met.sum(0) + 3), torch.diag(met.sum(1) + 4)
    a[:12, 12:], a[12:, :12] = met.T, met
    exact = torch.linalg.solve(a, torch.cat([dense.sum(0), dense.sum(1)]))
    assert torch.allclose(meta["item"], exact[:12], atol=0.02)
    user = learner.adapt(no_problem("explicit"), meta, support((0, 5.0), (1, 4.0)))["user"]
    left = (5 - mean - meta["item"][0]) + (4 - mean - meta["item"][1])
    assert user.item() == pytest.approx(left.item() / (2 + 4), abs=1e-5)
