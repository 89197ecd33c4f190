"""What every member of the union of encoders keeps to, and what single ones compute."""

from typing import get_args

import pytest
import torch
from torch.func import vmap

from metarec_ray.core.batch import Features
from metarec_ray.core.parameters import Declared, Parameter, Rows, values
from metarec_ray.models.encoders.base import Encoder, Side
from metarec_ray.models.encoders.film import Film
from metarec_ray.models.encoders.mlp import Mlp
from metarec_ray.models.encoders.token_sum import TokenSum
from metarec_ray.models.encoders.union import AnyEncoder
from metarec_ray.models.towers import Towers

ENCODERS: list[type[Encoder]] = list(get_args(get_args(AnyEncoder)[0]))
DIM = 3
FEATURES = Features(
    tokens=torch.tensor([[1, 2, 0], [3, 0, 0], [0, 0, 0], [2, 3, 1]]),
    weights=torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.6, 0.6, 0.6]]),
    dense=torch.tensor([[0.5], [-1.0], [0.0], [2.0]]),
)
every = pytest.mark.parametrize("kind", ENCODERS, ids=lambda kind: kind.__name__)


def parameters(encoder: Encoder):
    generator = torch.Generator().manual_seed(0)
    fresh = values(encoder.init("item", Side(4, 1), DIM, scale=0.3, generator=generator))
    # What begins at 0 would hide what it multiplies.
    return {n: v + 0.2 * torch.randn(v.shape, generator=generator) for n, v in fresh.items()}


@every
def test_an_entity_of_which_nothing_is_known_is_the_zero_vector(kind: type[Encoder]) -> None:
    found = kind().encode(parameters(kind()), "item", FEATURES)
    assert found.shape == (4, DIM)
    assert found[2].tolist() == [0.0] * DIM


@every
def test_what_stands_beside_an_entity_and_padding_change_nothing(kind: type[Encoder]) -> None:
    params = parameters(kind())
    alone = Features(*(column[3:] for column in FEATURES))
    padded = Features(
        tokens=torch.nn.functional.pad(alone.tokens, (0, 2)),
        weights=torch.nn.functional.pad(alone.weights, (0, 2)),
        dense=alone.dense,
    )
    together = kind().encode(params, "item", FEATURES)[3:]
    for features in (alone, padded):
        torch.testing.assert_close(kind().encode(params, "item", features), together)


@every
def test_an_encoder_that_adapts_is_the_same_function_and_vmap_maps_it(kind: type[Encoder]) -> None:
    params, fast = parameters(kind()), kind(adapts=True)
    plain = kind().encode(params, "item", FEATURES)
    torch.testing.assert_close(fast.encode(params, "item", FEATURES), plain)
    both = {name: torch.stack([value, 2 * value]) for name, value in params.items()}
    mapped = vmap(lambda own: fast.encode(own, "item", FEATURES))(both)
    torch.testing.assert_close(mapped[0], plain)
    torch.testing.assert_close(
        mapped[1], kind().encode({n: 2 * v for n, v in params.items()}, "item", FEATURES)
    )


@every
def test_rows_of_embeddings_say_what_they_stand_for_and_decay(kind: type[Encoder]) -> None:
    fresh = kind().init("user", Side(4, 1), DIM, scale=0.3, generator=torch.Generator())
    assert fresh["user.tokens"].rows == Rows("user", "tokens")
    assert fresh["user.dense"].rows == Rows("user", "dense")
    assert all(parameter.decays and not parameter.is_table for parameter in fresh.values())
    assert all(name.startswith("user.") for name in fresh)


def test_nothing_adapts_unless_it_is_asked_for_and_contexts_and_ids_never_do() -> None:
    def adapted(encoder: AnyEncoder) -> set[str]:
        return set(Towers(encoder=encoder, item_ids=True, user_ids=True).adapted())

    assert adapted(TokenSum()) == adapted(Mlp()) == set()
    assert adapted(TokenSum(adapts=True)) == {
        "item.tokens",
        "item.dense",
        "user.tokens",
        "user.dense",
    }
    assert adapted(Film()) == {"item.scale", "user.scale"}
    assert adapted(Mlp(adapts=True)) == {"item.hidden", "item.out", "user.hidden", "user.out"}


def test_what_adapts_is_declared_and_no_name_decides() -> None:
    class Odd(TokenSum):
        def init(
            self, side: str, sizes: Side, dim: int, *, scale: float, generator: torch.Generator
        ) -> Declared:
            return {
                "layer.ids": Parameter(torch.zeros(dim), adapts=True),
                "user.hidden": Parameter(torch.zeros(dim)),
            }

    assert set(Towers(encoder=Odd(adapts=True)).adapted()) == {"layer.ids"}


def test_a_fresh_mlp_is_a_token_sum_and_then_adds_a_hidden_layer() -> None:
    fresh = Mlp(width=2).init("item", Side(4, 1), DIM, scale=0.3, generator=torch.Generator())
    params = values(fresh)
    summed = TokenSum().encode(params, "item", FEATURES)
    assert torch.equal(Mlp(width=2).encode(params, "item", FEATURES), summed)
    params |= {"item.hidden": torch.ones(DIM, 2), "item.out": torch.ones(2, DIM)}
    expected = summed + 2 * summed.sum(1, keepdim=True).clamp(min=0)
    torch.testing.assert_close(Mlp(width=2).encode(params, "item", FEATURES), expected)
