import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from metarec_ray.core.batch import Encoded, Features
from metarec_ray.core.parameters import split
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.head import head_features, head_score
from metarec_ray.models.towers import Sides, Towers

SIDES = Sides(Side(3, 0), Side(5, 2), Side(1, 0), users=4, items=6)


def events(item: list[list[float]], user: list[float], context: list[list[float]]) -> Encoded:
    n = len(item)
    return Encoded(
        index=torch.arange(n),
        item=torch.tensor(item),
        offset=10 * torch.arange(1.0, n + 1),
        user=torch.tensor(user),
        context=torch.tensor(context),
        label=torch.zeros(n),
        age=torch.zeros(n),
        mask=torch.ones(n, dtype=torch.bool),
        time=torch.zeros(n, dtype=torch.int64),
        place=torch.arange(n),
    )


def fresh(model: Towers, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return split(model.init(SIDES, torch.Generator().manual_seed(seed)))


def test_an_entity_is_the_weighted_sum_of_its_tokens_features_and_id() -> None:
    params = {
        "item.tokens": torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0]]),
        "item.dense": torch.tensor([[10.0, 0.0], [0.0, 10.0]]),
    }
    features = Features(
        tokens=torch.tensor([[1, 2], [2, 0]]),
        weights=torch.tensor([[0.5, 0.25], [1.0, 0.0]]),
        dense=torch.tensor([[1.0, 2.0], [0.0, -1.0]]),
    )
    found = Towers(dim=2).encode(
        params, "item", features, torch.tensor([[100.0, 0.0], [0.0, 100.0]])
    )
    first = [0.5 * 1 + 10 * 1 + 100, 0.25 * 1 + 10 * 2]
    second = [0.0, 1 - 10 + 100]
    assert found.tolist() == [first, second]


def test_an_entity_without_any_feature_is_the_zero_vector() -> None:
    dense, _ = fresh(Towers(dim=2))
    nothing = Features(
        torch.zeros(3, 0, dtype=torch.int64), torch.zeros(3, 0), torch.zeros(3, SIDES.user.dense)
    )
    assert Towers(dim=2).encode(dense, "user", nothing).tolist() == [[0.0, 0.0]] * 3


def test_a_linear_head_is_match_plus_weights_plus_offset() -> None:
    params = {
        "head.out.weight": torch.tensor([0.5, -1.0]),
        "head.out.bias": torch.tensor(0.25),
        "offset.scale": torch.tensor(2.0),
    }
    asked = events([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0], [[0.0, 1.0]])
    first = (0.5 * 1 - 1 * 2) + 0.25 + (1 * 1 + (1 + 1) * 2) + 2 * 10
    second = (0.5 * 3 - 1 * 4) + 0.25 + (1 * 3 + (1 + 1) * 4) + 2 * 20
    assert head_features(params, asked).tolist() == asked.item.tolist()
    assert head_score(params, asked).tolist() == [first, second]


def test_hidden_layers_see_the_item_and_the_query() -> None:
    params = {
        "head.0.item": torch.tensor([[1.0], [2.0]]),
        "head.0.user": torch.tensor([[-1.0], [0.0]]),
        "head.0.bias": torch.tensor([0.5]),
        "head.1.item": torch.tensor([[3.0]]),
        "head.1.bias": torch.tensor([-1.0]),
        "head.out.weight": torch.tensor([10.0, 0.5, 2.0]),
        "head.out.bias": torch.tensor(0.25),
        "offset.scale": torch.tensor(0.0),
    }
    asked = events([[1.0, 1.0], [0.0, 0.0]], [1.0, 7.0], [[1.0, 0.0]])
    # The first layer is item + user + context; 1 + 2 + 0.5 - 2 = 1.5, and 0.5 - 2 < 0 gives 0.
    first, second = 3 * 1.5 - 1, 0.0
    assert head_features(params, asked).tolist() == [[first, 1.0, 1.0], [second, 0.0, 0.0]]
    # The last layer weighs the units before the item's vector; user + context is (2, 7).
    match = (2 + 0.5) * 1 + (7 + 2) * 1
    assert head_score(params, asked).tolist() == [10 * first + match + 0.25, 0.25]


@pytest.mark.parametrize("hidden", [(), (3,), (4, 2)])
def test_a_context_that_all_events_share_may_be_one_row(hidden: tuple[int, ...]) -> None:
    dense, _ = fresh(Towers(dim=2, hidden=hidden))
    dense["head.out.weight"] = torch.linspace(-1, 1, len(dense["head.out.weight"]))
    shared = events([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]], [1.0, -1.0], [[0.5, 2.0]])
    repeated = shared._replace(context=shared.context.expand(3, 2))
    torch.testing.assert_close(head_score(dense, shared), head_score(dense, repeated))


def test_parameters_are_a_function_of_the_generator() -> None:
    model = Towers(dim=3, hidden=(4, 2), user_ids=True)
    one, other, third = fresh(model, 1), fresh(model, 1), fresh(model, 2)
    assert all(torch.equal(a[n], b[n]) for a, b in zip(one, other, strict=True) for n in a)
    assert not torch.equal(one[0]["item.tokens"], third[0]["item.tokens"])


def test_shapes_follow_the_sizes_of_the_sides() -> None:
    dense, tables = fresh(Towers(dim=3, hidden=(4, 2), user_ids=True))
    assert {name: tuple(value.shape) for name, value in (dense | tables).items()} == {
        "offset.scale": (),
        "user.tokens": (3, 3),
        "user.dense": (0, 3),
        "item.tokens": (5, 3),
        "item.dense": (2, 3),
        "context.tokens": (1, 3),
        "context.dense": (0, 3),
        "head.0.item": (3, 4),
        "head.0.user": (3, 4),
        "head.0.bias": (4,),
        "head.1.item": (4, 2),
        "head.1.bias": (2,),
        "head.out.weight": (2 + 3,),
        "head.out.bias": (),
        "item.ids": (6, 3),
        "user.ids": (4, 3),
    }


def test_a_new_user_starts_at_the_zero_vector_and_the_last_layer_at_zero() -> None:
    dense, tables = fresh(Towers(dim=3, user_ids=True))
    assert not tables["user.ids"].any()
    assert not dense["head.out.weight"].any()
    assert fresh(Towers(item_ids=False))[1] == {}


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"hidden": (0,)}, {"prior_days": 0}, {"width": 3}])
def test_sizes_out_of_range_and_unknown_keys_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Towers.model_validate(wrong)
