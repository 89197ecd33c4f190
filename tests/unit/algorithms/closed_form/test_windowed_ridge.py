from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.closed_form.windowed_ridge import WindowedRidge
from metarec_ray.algorithms.closed_form.windowed_sums import event_weights
from metarec_ray.algorithms.problem import (
    Support,
    encode_candidates,
    encode_support,
    no_problem,
    unencoded,
)
from metarec_ray.core.batch import Features, FieldSpan, Params, SideInformation
from metarec_ray.core.histories import Histories
from metarec_ray.errors import DataError
from tests.unit.small_histories import histories_of

DAY, SECOND = 86_400_000_000, 1_000_000
ITEMS = 30
PROBLEM = no_problem("implicit")


def side(token: list[int], dense: list[float], tokens: int = 4) -> SideInformation:
    """One categorical field (row 1 is its unknown value) and one numeric field."""
    features = Features(
        torch.tensor(token).unsqueeze(1), torch.ones(len(token), 1), torch.tensor([dense]).T
    )
    spans = (FieldSpan("kind", True, 1, tokens), FieldSpan("size", False, 0, 1))
    return SideInformation(features, spans, tokens)


def histories(
    items: list[list[int]], *, times: list[list[int]] | None = None, n_items: int = ITEMS
) -> Histories:
    moments = [time for history in times or [] for time in history] or None
    cutoff = 100 * DAY if times else None
    return histories_of(items, n_items=n_items, time=moments, cutoff=cutoff)


def walks(users: int = 60) -> Histories:
    """Histories of 8 to 30 distinct items; the user's kind says which half it likes.

    User u begins on day u, and about half of the events share a second with the one before.
    """
    generator = torch.Generator().manual_seed(3)
    lists: list[list[int]] = []
    times: list[list[int]] = []
    for user in range(users):
        length = int(torch.randint(8, ITEMS + 1, (1,), generator=generator))
        order = torch.rand(ITEMS, generator=generator) + torch.arange(ITEMS).lt(15) * (user % 2)
        lists.append(order.argsort()[:length].tolist())
        steps = torch.randint(0, 2, (length,), generator=generator)
        times.append((user * DAY + steps.cumsum(0) * SECOND).tolist())
    return histories(lists, times=times)._replace(
        users=side(
            [2 + user % 2 for user in range(users)], [user / users for user in range(users)]
        ),
        items=side([2 + item % 2 for item in range(ITEMS)], [item / 10 for item in range(ITEMS)]),
    )


def scores(
    meta: Params, *items: int, user: Tensor, times: list[int] | None = None, padding: int = 0
) -> Tensor:
    return _scores(
        meta,
        torch.tensor([*items] + [1] * padding, dtype=torch.int64),
        torch.arange(len(items) + padding) < len(items),
        torch.tensor((times or [0] * len(items)) + [3 * SECOND] * padding, dtype=torch.int64),
        user,
    )


def _scores(meta: Params, item: Tensor, mask: Tensor, time: Tensor, user: Tensor) -> Tensor:
    learner, catalogue, nowhere = (
        WindowedRidge(),
        unencoded(meta["base"].shape[1]),
        torch.zeros(1, 0),
    )
    given = Support(catalogue.at(item), nowhere, torch.ones(item.shape), mask, time)
    fast = learner.adapt(PROBLEM, meta, encode_support(given, user))
    return learner.score(PROBLEM, meta, fast, encode_candidates(catalogue, user, nowhere))


class Recipe(NamedTuple):
    """What the learner promises at one support size."""

    decay: float
    seconds: float | None
    last_offset: int
    fade: float
    content: float
    penalty: float
    even: bool
    scale: float
    alone: float


RECIPES = {
    1: Recipe(1.0, None, 58, 3.0, 0.3, 15.0, True, 1.0, 0.5),
    3: Recipe(0.7, 0.5, 58, 3.0, 0.2, 5.0, False, 1.0, 0.0),
    5: Recipe(0.7, 0.5, 58, 3.0, 0.4, 5.0, False, 1.25, 0.0),
    10: Recipe(0.85, 0.6, 398, 20.0, 0.2, 3.0, True, 1.5, 0.0),
}
USER = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.25])  # of the second kind


def bag(items: list[int], times: list[int], recipe: Recipe) -> Tensor:
    found = torch.zeros(ITEMS, dtype=torch.float64)
    for place, (item, time) in enumerate(zip(items, times, strict=True)):
        later = {other // SECOND for other in times if other // SECOND > time // SECOND}
        steps = len(items) - 1 - place
        found[item] = (
            recipe.decay**steps
            if recipe.seconds is None or not any(times)
            else recipe.seconds ** len(later)
        )
    return found


def vector(items: list[int], times: list[int], user: Tensor, data: Histories, r: Recipe) -> Tensor:
    """Return a support as (items, user, content); nothing stands for what is not known."""
    found = bag(items, times, r)
    content = data.items.matrix()[:, 1:].double()
    return torch.cat([found, user[1:].double(), r.content * found @ content])


def regression(data: Histories, k: int, r: Recipe, *, even: bool, keep: slice = slice(None)):
    """Return the weights and the mean first window of an explicit weighted least squares problem.

    `keep` chooses columns of the support's vector.
    """
    rows: list[tuple[Tensor, Tensor, float, int]] = []
    users = data.users.matrix()
    for user, (start, end) in enumerate(
        zip(data.offsets[:-1].tolist(), data.offsets[1:].tolist(), strict=True)
    ):
        last = min(max(end - start - 20, 0), r.last_offset)
        for offset in range(0, last + 1, 2) if end - start >= 13 else []:
            window = slice(start + offset, min(start + offset + 20, end))
            items, times = data.item[window].tolist(), data.time[window].tolist()
            y = torch.zeros(ITEMS, dtype=torch.float64)
            y[items[10:]] = 1
            x = vector(items[:k], times[:k], users[user], data, r)[keep]
            rows.append((x, y, 1 / (1 + offset / r.fade), [0, 5, 19, 59].index(_edge(offset))))
    x, y = torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])
    w, bucket = torch.tensor([row[2] for row in rows]).double(), torch.tensor([r[3] for r in rows])
    mass = (w.unsqueeze(1) * x * x).sum(0)
    first = w[bucket == 0] @ x[bucket == 0] / w[bucket == 0].sum()
    for b in bucket.unique():
        at = bucket == b
        x[at] -= w[at] @ x[at] / w[at].sum()
        y[at] -= w[at] @ y[at] / w[at].sum()
    rare = (mass / mass[mass > 0].mean() + 0.05).sqrt()
    penalty = r.penalty * (torch.ones_like(mass) if even else rare)
    # Ridge as plain least squares: the penalties are rows whose target is 0.
    left = torch.cat([w.sqrt().unsqueeze(1) * x, torch.diag(penalty.sqrt())])
    right = torch.cat([w.sqrt().unsqueeze(1) * y, torch.zeros(len(mass), ITEMS).double()])
    return torch.linalg.lstsq(left, right).solution, first


def _edge(offset: int) -> int:
    return next(edge for edge in (0, 5, 19, 59) if offset <= edge)


@pytest.fixture(scope="module")
def data() -> Histories:
    return walks()


@pytest.fixture(scope="module")
def meta(data: Histories) -> Params:
    return WindowedRidge(penalty=5.0).fit(data)


def prior(data: Histories) -> Tensor:
    return WindowedRidge().fit(data.without_features())["base"][0].double()


SUPPORT = [4, 20, 7, 11, 2, 29, 0, 13, 8, 17]
MOMENTS = [second * SECOND for second in (1, 1, 2, 4, 4, 4, 5, 6, 6, 8)]


@pytest.mark.parametrize("k", [1, 3, 5, 10])
def test_a_support_is_scored_by_a_dense_least_squares_solution(
    data: Histories, meta: Params, k: int
):
    recipe, only_user = RECIPES[k], slice(ITEMS, ITEMS + 4)
    weights, first = regression(data, k, recipe, even=recipe.even)
    x = vector(SUPPORT[-k:], MOMENTS[-k:], USER, data, recipe)
    moved = (1 - recipe.alone) * (x - first) @ weights
    if recipe.alone:
        alone, _ = regression(data, 1, recipe._replace(penalty=5.0), even=True, keep=only_user)
        moved = moved + recipe.alone * (x - first)[only_user] @ alone
    expected = prior(data) + recipe.scale * moved
    found = scores(meta, *SUPPORT[-k:], times=MOMENTS[-k:], user=USER)
    assert torch.allclose(found.double(), expected, atol=1e-4)


def test_a_user_without_events_is_scored_by_features_alone(data: Histories, meta: Params):
    recipe, only_user = RECIPES[1]._replace(penalty=5.0), slice(ITEMS, ITEMS + 4)
    weights, first = regression(data, 1, recipe, even=True, keep=only_user)
    expected = prior(data) + (USER[1:].double() - first) @ weights
    assert torch.allclose(scores(meta, user=USER).double(), expected, atol=1e-4)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_a_log_without_clock_and_features_is_read_by_position(k: int):
    bare = walks().without_features()._replace(cutoff=None)
    bare = bare._replace(time=torch.zeros_like(bare.time))
    recipe = RECIPES[k]
    weights, first = regression(bare, k, recipe, even=recipe.even)
    x = vector(SUPPORT[-k:], [0] * k, torch.zeros(1), bare, recipe)
    moved = recipe.scale * (1 - recipe.alone) * (x - first) @ weights
    learned = WindowedRidge(penalty=5.0).fit(bare)
    found = scores(learned, *SUPPORT[-k:], user=torch.zeros(1))
    assert torch.allclose(found.double(), prior(bare) + moved, atol=1e-4)


def test_the_prior_is_the_weighted_share_of_late_beginners():
    # Days 90 and 80 of 100, half life 10: weights 1/2 and 1/4. Position 1 only, as first_position
    # is 1; 10 query events of 10 positions.
    data = histories(
        [[0, 1], [1, 2]], times=[[90 * DAY, 91 * DAY], [80 * DAY, 81 * DAY]], n_items=4
    )
    learner = WindowedRidge(half_life_days=10, first_position=1, last_position=11)
    found = scores(learner.fit(data), user=torch.zeros(1), padding=1)
    # Position 0 counts a thousandth.
    expected = [0.001 * (1 / 2), 1 / 2 + 0.001 * (1 / 4), 1 / 4, 0]
    assert found.tolist() == pytest.approx([value / (3 / 4) for value in expected])


def test_histories_that_end_before_the_prior_begins_rank_by_popularity():
    learner = WindowedRidge()
    found = scores(
        learner.fit(histories([[0, 1, 2], [0, 1], [0]], n_items=4)), user=torch.zeros(1), padding=1
    )
    # 10 query events of 20 positions; a thousandth for each of 3, 2, 1, 0 of 3 entities.
    assert found.tolist() == pytest.approx([10 / 20 * 0.001 * n / 3 for n in (3, 2, 1, 0)])


@pytest.mark.parametrize("first", [25, 30])
def test_positions_that_end_before_they_begin_are_refused(first: int):
    with pytest.raises(ValueError, match=f"first_position must be < last_position 25, got {first}"):
        WindowedRidge(first_position=first)


def test_the_prior_is_scaled_to_the_size_of_a_query():
    # Positions 0..4 hold five events of everybody, a query three: an item everybody met there has
    # a chance of 3/5 to be among the query's events.
    learner = WindowedRidge(query_size=3, first_position=0, last_position=5)
    found = learner.fit(histories([[0, 1, 2], [0]], n_items=4))["base"][0]
    assert found.tolist() == pytest.approx([3 / 5, 3 / 10, 3 / 10, 0])


def test_events_of_one_second_weigh_alike_and_each_later_second_halves():
    times = torch.tensor([5.2, 5.9, 6.0, 9.0]) * SECOND
    found = event_weights(
        times.long(),
        torch.tensor([3.0, 2.0, 1.0, 0.0]),
        torch.ones(4, dtype=torch.bool),
        decay=torch.tensor(0.7),
        by_second=torch.tensor(0.5),
    )
    assert found.tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 2, 1])


def test_without_a_clock_events_weigh_by_position():
    found = event_weights(
        torch.zeros(3, dtype=torch.int64),
        torch.tensor([2.0, 1.0, 0.0]),
        torch.tensor([True, True, False]),
        decay=torch.tensor(0.7),
        by_second=torch.tensor(0.5),
    )
    assert found.tolist() == pytest.approx([0.49, 0.7, 0])


@pytest.mark.parametrize(("k", "size"), [(2, 1), (4, 3), (7, 5), (10, 10)])
def test_a_support_between_two_sizes_is_read_by_its_newest_events(meta: Params, k: int, size: int):
    found = scores(meta, *SUPPORT[-k:], times=MOMENTS[-k:], user=USER)
    newest = scores(meta, *SUPPORT[-size:], times=MOMENTS[-size:], user=USER)
    assert torch.allclose(found, newest, atol=1e-6)


def test_more_events_than_the_window_are_read_by_the_newest_ten(meta: Params):
    found = scores(meta, 1, 3, *SUPPORT, times=[SECOND, SECOND, *MOMENTS], user=USER)
    assert torch.allclose(found, scores(meta, *SUPPORT, times=MOMENTS, user=USER), atol=1e-6)


@pytest.mark.parametrize("k", [0, 3, 10])
def test_padding_changes_no_score(meta: Params, k: int):
    plain = scores(meta, *SUPPORT[:k], times=MOMENTS[:k], user=USER)
    padded = scores(meta, *SUPPORT[:k], times=MOMENTS[:k], user=USER, padding=3)
    assert torch.allclose(plain, padded, atol=1e-6)


def test_a_batch_of_sizes_gives_what_a_loop_gives(meta: Params):
    item = torch.tensor([SUPPORT] * 4)
    time = torch.tensor([MOMENTS] * 4)
    mask = torch.arange(10) < torch.tensor([[0], [1], [4], [10]])
    user = torch.stack([USER, USER.flip(0), USER, USER])
    batch = torch.func.vmap(partial(_scores, meta))(item, mask, time, user)
    loop = [_scores(meta, *one) for one in zip(item, mask, time, user, strict=True)]
    assert torch.allclose(batch, torch.stack(loop), atol=1e-6)


def test_sums_of_shards_add_up_to_those_of_the_whole(data: Histories):
    learner = WindowedRidge()
    whole = learner.statistics({}, data)
    parts = [learner.statistics({}, data.take(part)) for part in torch.arange(60).split(25)]
    for name, value in whole.items():
        added = torch.stack([part[name] for part in parts]).sum(0)
        assert torch.allclose(added, value, rtol=1e-5, atol=1e-4), name


def test_an_unknown_user_gets_the_prior(data: Histories):
    kinds = data.users._replace(fields=data.users.fields[:1])
    learned = WindowedRidge().fit(data._replace(users=kinds))
    unknown = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])
    assert torch.allclose(scores(learned, user=unknown).double(), prior(data), atol=1e-6)
    assert not torch.allclose(scores(learned, user=USER).double(), prior(data), atol=1e-2)


def test_a_field_of_more_than_64_columns_is_not_read(data: Histories):
    names = side([2 + user for user in range(60)], [0.0] * 60, tokens=66)
    learned = WindowedRidge().fit(data.without_features()._replace(users=names))
    assert learned["user_columns"].tolist() == [66]  # the numeric field stands behind the tokens
    narrower = WindowedRidge().fit(data._replace(users=side([2] * 60, [0.0] * 60, tokens=65)))
    assert len(narrower["user_columns"]) == 64 + 1


def test_histories_too_short_for_a_task_leave_the_prior():
    short = histories([[0, 1, 2], [1, 2, 3]], n_items=4)
    learned = WindowedRidge(first_position=0).fit(short)
    assert torch.equal(scores(learned, 0, user=torch.zeros(1)), learned["base"][0])


def test_log_shares_are_logs_of_chances_with_a_least_chance():
    found = WindowedRidge().log_share(torch.tensor([[0.5, 0.0, -0.3]]))
    expected = torch.tensor([[0.502, 0.002, 0.002]]).log()
    assert torch.allclose(found, expected)


def test_a_catalogue_that_would_not_fit_is_refused():
    with pytest.raises(DataError, match="takes at most 3 items, got a catalogue of 4"):
        WindowedRidge(max_items=3).fit(histories([[0]], n_items=4))


def test_it_is_for_positives_only():
    assert WindowedRidge.suits == ("implicit",)
