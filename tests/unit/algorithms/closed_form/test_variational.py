"""The variational learner and empirical-Bayes ridge against dense references."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.algorithms.base import Fitting
from metarec_ray.algorithms.closed_form.content import choose, regression
from metarec_ray.algorithms.closed_form.eb_ridge import EBRidge
from metarec_ray.algorithms.closed_form.factorisation import Shard, entity_step, unfold
from metarec_ray.algorithms.closed_form.variational import VariationalBayes
from metarec_ray.algorithms.problem import no_problem
from metarec_ray.core.batch import Encoded, Features, FieldSpan, Params, SideInformation
from metarec_ray.core.histories import Histories
from metarec_ray.errors import ConfigError
from tests.unit.small_histories import histories_of

PROBLEM = no_problem("explicit")
LEARNER = VariationalBayes(factors=2)
USERS, ITEMS = 200, 40


def side(group: Tensor, groups: int) -> SideInformation:
    """One categorical field; rows 0 and 1 of the table are padding and the unknown."""
    features = Features(
        group.unsqueeze(1) + 2, torch.ones(len(group), 1), torch.zeros(len(group), 0)
    )
    return SideInformation(features, (FieldSpan("group", True, 1, groups + 2),), groups + 2)


def log(label: Tensor, met: Tensor) -> Histories:
    """Ratings of the pairs that met, [E, I], entity by entity."""
    items = [row.nonzero().flatten().tolist() for row in met]
    return histories_of(items, n_items=label.shape[1], label=label[met])


def world(seed: int = 0) -> tuple[Histories, Tensor]:
    """Ratings in which content moves items and a group moves users; items 0..7 are never met."""
    generator = torch.Generator().manual_seed(seed)
    user_group, item_group = torch.arange(USERS) % 2, torch.arange(ITEMS) % 4
    p = torch.randn(USERS, 2, generator=generator)
    q = torch.randn(4, 2, generator=generator)[item_group]
    q = q + 0.2 * torch.randn(ITEMS, 2, generator=generator)
    bias = torch.tensor([-0.8, 0.0, 0.3, 0.9])[item_group] + 0.6 * user_group.unsqueeze(1)
    label = 3 + bias + p @ q.T + 0.3 * torch.randn(USERS, ITEMS, generator=generator)
    met = torch.rand(USERS, ITEMS, generator=generator) < 0.5
    met[:, :8] = False
    data = log(label, met)._replace(users=side(user_group, 2), items=side(item_group, 4))
    return data, label


def support(index: list[int], label: list[float], user: Tensor, padding: int = 0) -> Encoded:
    item = torch.tensor(index + [0] * padding, dtype=torch.int64)
    n = len(item)
    return Encoded(
        index=item,
        item=torch.zeros(n, 0),
        offset=torch.zeros(n),
        user=user,
        context=torch.zeros(1, 0),
        label=torch.tensor(label + [9.0] * padding),
        age=torch.zeros(n),
        mask=torch.arange(n) < len(index),
        time=torch.zeros(n, dtype=torch.int64),
        place=item,
    )


def predicted(learner: VariationalBayes | EBRidge, meta: Params, given: Encoded) -> Tensor:
    items = support(list(range(len(meta["item"]))), [0.0] * len(meta["item"]), given.user)
    return learner.score(PROBLEM, meta, learner.adapt(PROBLEM, meta, given), items)


def rows(data: Histories) -> Tensor:
    return data.users.matrix()


def test_adapting_gives_the_posterior_of_bayesian_linear_regression():
    data, _ = world()
    meta = LEARNER.fit(data)
    index, label, user = [9, 12, 20], [5.0, 2.0, 4.0], rows(data)[1]
    x = torch.cat([torch.ones(3, 1), meta["item"][index, 1:]], 1)
    residual = torch.tensor(label) - meta["mean"] - meta["item"][index, 0]
    noise = torch.diag(meta["noise"] + meta["item_noise"][index])
    z = torch.tensor([1.0, 0.0, 0.0, 1.0])  # one; unknown, group 0, group 1: user 1 is in group 1
    prior, cov = z @ meta["user_map"], torch.linalg.inv(meta["user_precision"])
    gain = cov @ x.T @ torch.linalg.inv(x @ cov @ x.T + noise)
    exact = prior + gain @ (residual - x @ prior)
    fast = LEARNER.adapt(PROBLEM, meta, support(index, label, user))
    assert torch.allclose(fast["user"], exact, atol=1e-4)


def test_padding_and_batching_do_not_change_the_posterior():
    data, _ = world()
    meta, user = LEARNER.fit(data), rows(data)[0]
    plain = LEARNER.adapt(PROBLEM, meta, support([9, 12], [5.0, 2.0], user))["user"]
    padded = support([9, 12], [5.0, 2.0], user, padding=3)
    batch = Encoded(*(torch.stack([column, column]) for column in padded))
    found = vmap(lambda given: LEARNER.adapt(PROBLEM, meta, given)["user"])(batch)
    assert torch.allclose(found, plain.expand(2, -1), atol=1e-5)


def uncertain(meta: Params) -> Params:
    """The fitted priors with some covariance of every item."""
    root = 0.3 * torch.randn(ITEMS, 3, 3, generator=torch.Generator().manual_seed(5))
    return meta | {"item_cov": root @ root.mT}


def test_an_entity_posterior_equals_a_dense_solve_with_the_items_second_moments():
    data, _ = world()
    meta = uncertain(LEARNER.fit(data))
    prior = torch.randn(USERS, 3, generator=torch.Generator().manual_seed(1))
    user = entity_step(meta, Shard(data, prior))["user"][5]
    a = meta["user_precision"].clone()
    b = a @ prior[5]
    for event in range(int(data.offsets[5]), int(data.offsets[6])):
        mean, cov = meta["item"][data.item[event]], meta["item_cov"][data.item[event]].clone()
        x = torch.cat([torch.ones(1), mean[1:]])
        with_bias = mean[0] * x + torch.cat([torch.zeros(1), cov[0, 1:]])
        cov[0] = cov[:, 0] = 0
        a = a + (torch.outer(x, x) + cov) / meta["noise"]
        b = b + ((data.label[event] - meta["mean"]) * x - with_bias) / meta["noise"]
    assert torch.allclose(user, torch.linalg.solve(a, b), atol=1e-3)


def test_the_expected_squared_residual_is_that_of_draws_from_both_posteriors():
    # Three ratings an entity and wide priors: neither side is sure of itself.
    met = torch.zeros(4, ITEMS, dtype=torch.bool)
    for user in range(4):
        met[user, 9 + 5 * user : 12 + 5 * user] = True
    data = log(world()[1][:4], met)
    meta = uncertain(LEARNER.fit(world()[0])) | {"noise": torch.tensor(0.5)}
    prior = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    found = entity_step(meta, Shard(data, prior))
    generator, draws = torch.Generator().manual_seed(7), 40_000
    items = meta["item"] + torch.einsum(
        "ipq,siq->sip",
        torch.linalg.cholesky(meta["item_cov"] + 1e-8 * torch.eye(3)),
        torch.randn(draws, ITEMS, 3, generator=generator),
    )
    total = 0.0
    for user in range(4):
        rated, label = data.item[3 * user : 3 * user + 3], data.label[3 * user : 3 * user + 3]
        x = torch.cat([torch.ones(3, 1), meta["item"][rated, 1:]], 1)
        second = x.T @ x
        second[1:, 1:] += meta["item_cov"][rated, 1:, 1:].sum(0)
        cov = torch.linalg.inv(meta["user_precision"] + second / meta["noise"])
        noise = torch.randn(draws, 3, generator=generator) @ torch.linalg.cholesky(cov).T
        a = (found["user"][user] + noise).unsqueeze(1)
        c = items[:, rated]
        rating = meta["mean"] + a[..., 0] + c[..., 0] + (a[..., 1:] * c[..., 1:]).sum(2)
        total += (label - rating).square().mean(0).sum().item()
    assert found["squares"].item() == pytest.approx(total, rel=0.01)


def test_the_sums_of_shards_add_up_to_those_of_the_whole():
    data, _ = world()
    meta = uncertain(LEARNER.fit(data))
    prior = torch.zeros(USERS, 3)
    whole = entity_step(meta, Shard(data, prior))
    halves = [
        entity_step(meta, Shard(data.take(part), prior[part]))
        for part in torch.arange(USERS).split(130)
    ]
    assert torch.allclose(torch.cat([half["user"] for half in halves]), whole["user"], atol=1e-5)
    for name in set(whole) - {"user"}:
        added = halves[0][name] + halves[1][name]
        assert torch.allclose(added, whole[name], rtol=1e-4, atol=1e-3), name


def test_the_learned_noise_falls_and_settles_at_that_of_the_ratings():
    lines: list[str] = []
    LEARNER.fit(world()[0], Fitting(progress=lines.append))
    noise = [float(line.split("noise ")[1]) for line in lines]
    assert max(late - early for early, late in pairwise(noise[1:])) < 0.001
    assert noise[-1] == pytest.approx(0.3**2, rel=0.15)


def test_content_tells_a_new_item_from_others_and_its_uncertainty_is_noise():
    data, label = world()
    meta = LEARNER.fit(data)
    assert torch.corrcoef(torch.stack([meta["item"][:8, 0], label[:, :8].mean(0)]))[0, 1] > 0.95
    blind = LEARNER.model_copy(update={"content": {}}).fit(data)
    assert blind["item"][:8, 0].std() < 1e-4
    assert meta["item_noise"][:8].min() > 5 * meta["item_noise"][8:].max()
    assert meta["item_noise"][0] < blind["item_noise"][0]


def test_demographics_move_the_prediction_for_a_user_without_ratings():
    data, label = world()
    meta = LEARNER.fit(data)
    men, women = (predicted(LEARNER, meta, support([], [], rows(data)[u], 2)) for u in (0, 1))
    apart = (label[1::2] - label[::2]).mean().item()
    assert (women - men).mean().item() == pytest.approx(apart, abs=0.1)


def test_with_entities_and_items_exchanged_items_adapt_to_their_first_raters():
    data, label = world()
    entity = torch.arange(USERS).repeat_interleave(data.offsets.diff())
    met = torch.zeros(ITEMS, USERS, dtype=torch.bool)
    met[data.item, entity] = True
    films = log(label.T.contiguous(), met)._replace(users=data.items, items=data.users)
    meta = LEARNER.fit(films)
    errors = []
    for k in (0, 5, 20):
        raters = list(range(k))
        found = torch.stack(
            [
                predicted(LEARNER, meta, support(raters, label[:k, i].tolist(), rows(films)[i], 1))
                for i in range(8)
            ]
        )
        errors.append((found - label.T[:8])[:, 20:].square().mean().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.3


def test_a_fit_asks_for_a_step_of_each_shard_and_is_the_same_for_the_same_seed():
    data, _ = world()
    calls: list[int] = []

    def each(function, values):
        calls.append(len(values))
        return [function(value) for value in values]

    first = VariationalBayes(factors=2, sweeps=3).fit(data, Fitting(seed=4, each=each))
    again = VariationalBayes(factors=2, sweeps=3).fit(data, Fitting(seed=4))
    assert calls == [1, 1, 1]
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_an_unknown_content_field_is_refused_with_its_place():
    learner = VariationalBayes(content={"colour": 1.0})
    with pytest.raises(ConfigError, match=r"must be among group, got 'colour' \(variational_bayes"):
        learner.fit(world()[0])


def test_regression_equals_the_dense_ridge_whichever_side_is_smaller():
    generator = torch.Generator().manual_seed(2)
    target = torch.randn(6, 2, generator=generator)
    weight = torch.tensor([1.0, 0.5, 0.0, 1.0, 2.0, 1.0])
    for columns in (3, 9):
        table = torch.randn(6, columns, generator=generator)
        found = regression(table.to_sparse(), weight, 0.7)
        mean = weight @ target / weight.sum()
        gram = table.T @ torch.diag(weight) @ table + 0.7 * torch.eye(columns)
        exact = torch.linalg.solve(gram, table.T @ torch.diag(weight) @ (target - mean))
        exact[0] += mean
        assert torch.allclose(found.solve(target), exact, atol=1e-4)
        hat = table @ torch.linalg.solve(gram, table.T @ torch.diag(weight))
        assert torch.allclose(found.leverage, hat.diagonal().clamp(max=0.9), atol=1e-4)
        assert found.rows.shape == (5, 5)  # whatever is predicted only


def test_regressors_scale_fields_and_give_numbers_a_polynomial():
    features = Features(torch.tensor([[2, 0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0]]))
    fields = (FieldSpan("genre", True, 1, 4), FieldSpan("year", False, 0, 1))
    given = SideInformation(features, fields, 4)
    expected = [1.0, 0.0, 0.5, 0.0, 3 * 2.0, 3 * 4.0, 3 * 8.0]
    chosen = choose(given, {"genre": 0.5, "year": 3.0}, "", torch.ones(1).bool())
    assert chosen.table(given).to_dense()[0].tolist() == expected
    assert chosen.of(given.matrix())[0].tolist() == expected


def test_a_number_beyond_what_was_learned_from_says_what_the_last_one_says():
    data, _ = world()

    def fitted(never_met: float, met: float) -> Tensor:
        price = torch.linspace(-2, 2, ITEMS).unsqueeze(1)
        price[0], price[20] = never_met, met
        features = Features(torch.zeros(ITEMS, 0).long(), torch.zeros(ITEMS, 0), price)
        own = SideInformation(features, (FieldSpan("price", False, 0, 1),), 0)
        return LEARNER.fit(data._replace(items=own))["item"]

    torch.testing.assert_close(fitted(1e6, 1.5), fitted(2.0, 1.5))
    torch.testing.assert_close(fitted(1.5, 1e6), fitted(1.5, 3.0))


def test_unfolding_an_upper_triangle_gives_the_symmetric_matrix():
    assert unfold(torch.tensor([1.0, 2.0, 3.0])).tolist() == [[1, 2], [2, 3]]


def test_eb_ridge_is_the_variational_learner_without_side_information():
    data, _ = world()
    bare = VariationalBayes(factors=2, content={}, demographics={}).fit(data)
    meta = EBRidge(factors=2).fit(data)
    assert meta.keys() == bare.keys()
    assert all(torch.equal(meta[name], bare[name]) for name in bare)
    given = support([9, 12], [5.0, 2.0], rows(data)[0])
    without = given._replace(user=torch.zeros(0))
    assert torch.equal(
        predicted(EBRidge(factors=2), meta, given), predicted(EBRidge(factors=2), meta, without)
    )


def test_eb_ridge_gives_an_item_without_ratings_the_mean_of_items():
    meta = EBRidge(factors=2).fit(world()[0])
    assert torch.allclose(meta["item"][:8], meta["item"][8:].mean(0), atol=0.02)
