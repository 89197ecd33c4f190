"""What people like this one meet: ratios by hand on a log of three users."""

import math

import pytest
import torch

from metarec_ray.algorithms.second_stage import user_groups as module
from metarec_ray.algorithms.second_stage.user_groups import (
    SHRINK,
    WIDEST,
    group_features,
    group_ratios,
    groups,
)
from metarec_ray.core.batch import Features, FieldSpan, SideInformation
from metarec_ray.core.histories import Histories
from tests.unit.small_histories import histories_of

# Rows of the token table: 0 pads, 1 an unknown town, 2 and 3 towns, 4 an unknown hobby, 5 and 6.
TOWN, HOBBY = FieldSpan("town", True, 1, 4), FieldSpan("hobby", True, 4, 7)
AGE = FieldSpan("age", False, 0, 1)
HALF = 0.5**0.5
USERS = Features(
    tokens=torch.tensor([[2, 5, 6], [3, 5, 0], [2, 0, 0]]),
    weights=torch.tensor([[1.0, HALF, HALF], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
    dense=torch.zeros(3, 1),
)
LISTS = [[0, 0, 1], [1, 2], [0]]


def log(*fields: FieldSpan, tokens: int = 7, users: Features = USERS) -> Histories:
    side = SideInformation(users, fields, tokens)
    return histories_of(LISTS, n_items=3)._replace(users=side)


def ratio(count: float, total: float, share: float) -> float:
    return math.log((count + SHRINK * share) / ((total + SHRINK) * share))


def share(item: int) -> float:
    return ([3, 2, 1][item] + 0.1) / 6.3


def test_ratios_are_those_of_the_counts_by_hand() -> None:
    found = group_ratios(log(TOWN, HOBBY, AGE))
    town, hobby = [1, 0, 1], [0, 1, 1]
    assert found["column"][1:].tolist() == [town] * 3 + [hobby] * 3
    # Town 2: users 0 and 2; town 3: user 1; hobby 5: half of user 0 and user 1; hobby 6: half of 0.
    counts = {2: [3, 1, 0], 3: [0, 1, 1], 5: [2 * HALF, HALF + 1, 1], 6: [2 * HALF, HALF, 0]}
    for token in range(7):
        own = counts.get(token)
        right = [ratio(own[i], sum(own), share(i)) if own else 0.0 for i in range(3)]
        # Logarithms of numbers near 1: float32 has 7 digits of these.
        assert found["log_ratio"][token].tolist() == pytest.approx(right, abs=1e-6)


def test_a_user_is_told_the_ratio_of_each_field_and_their_sum() -> None:
    params = group_ratios(log(TOWN, HOBBY))
    table = params["log_ratio"]
    items = torch.tensor([[2, 0], [1, 1], [0, 2]])
    found = group_features(params, USERS, items)
    assert found.shape == (3, 2, 3)
    for user, row in enumerate(items.tolist()):
        for place, item in enumerate(row):
            town = float(table[[2, 3, 2][user], item])
            hobbies = [HALF * (table[5, item] + table[6, item]), table[5, item], torch.tensor(0.0)]
            hobby = float(hobbies[user])
            right = [town, hobby, town + hobby]
            assert found[user, place].tolist() == pytest.approx(right, abs=1e-7)


def test_a_user_without_a_token_or_with_one_that_groups_nobody_is_told_nothing() -> None:
    params = group_ratios(log(TOWN, HOBBY))
    tokens = torch.tensor([[0, 0], [1, 4], [2, 0]])
    users = Features(tokens, (tokens > 0).float(), torch.zeros(3, 0))
    found = group_features(params, users, torch.tensor([[0, 1]] * 3))
    assert not found[:2].any()  # nobody in the log has an unknown town or hobby
    assert bool(found[2, :, 0].any())
    none = Features(torch.zeros(3, 0).long(), torch.zeros(3, 0), torch.zeros(3, 0))
    assert not group_features(params, none, torch.tensor([[0, 1]] * 3)).any()


def test_no_fields_are_one_column_of_nothing() -> None:
    data = histories_of(LISTS, n_items=3)
    params = group_ratios(data)
    found = group_features(params, data.users.features, torch.tensor([[0, 1]] * 3))
    assert found.shape == (3, 2, 1)
    assert not found.any()


@pytest.mark.parametrize("wide_first", [True, False])
def test_a_field_that_is_nearly_an_id_groups_nobody(wide_first: bool) -> None:
    width = WIDEST + 1
    narrow = FieldSpan("town", True, 1 + width * wide_first, 4 + width * wide_first)
    wide = FieldSpan("id", True, 1 if wide_first else 4, 1 + width if wide_first else 4 + width)
    tokens = torch.tensor([[2, 1], [3, 2], [2, 3]]) - 1
    tokens = tokens + torch.tensor([narrow.first, wide.first])
    users = Features(tokens, torch.ones(3, 2), torch.zeros(3, 0))
    order = (wide, narrow) if wide_first else (narrow, wide)
    data = log(*order, tokens=4 + width, users=users)
    assert groups(data.users, 3) == (narrow,)
    params = group_ratios(data)
    found = group_features(params, users, torch.tensor([[0, 1, 2]] * 3))
    counts = [[3, 1, 0], [0, 1, 1], [3, 1, 0]]
    for user in range(3):
        right = [ratio(counts[user][i], sum(counts[user]), share(i)) for i in range(3)]
        assert found[user, :, 0].tolist() == pytest.approx(right, abs=1e-6)
        assert torch.equal(found[user, :, 0], found[user, :, 1])


def test_the_widest_field_that_groups_has_as_many_values_as_it_says() -> None:
    fields = tuple(FieldSpan(str(n), True, 1, 1 + n) for n in (WIDEST, WIDEST + 1))
    nobody = Features(torch.zeros(0, 1).long(), torch.zeros(0, 1), torch.zeros(0, 0))
    assert groups(SideInformation(nobody, fields, 99), 3) == fields[:1]


def test_fields_are_taken_as_long_as_the_table_may_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CELLS", 9)
    assert groups(log(TOWN, HOBBY).users, 3) == (TOWN,)
    params = group_ratios(log(TOWN, HOBBY))
    assert params["log_ratio"].numel() <= 4 * 3
    assert group_features(params, USERS, torch.tensor([[0, 1]] * 3)).shape == (3, 2, 2)


def test_a_wide_field_takes_no_place_in_the_table() -> None:
    wide, narrow = FieldSpan("id", True, 1, 1001), FieldSpan("town", True, 1001, 1004)
    tokens = torch.tensor([[2, 1002], [3, 1003], [4, 1002]])
    users = Features(tokens, torch.ones(3, 2), torch.zeros(3, 0))
    params = group_ratios(log(wide, narrow, tokens=1004, users=users))
    assert params["log_ratio"].numel() <= 4 * 3
