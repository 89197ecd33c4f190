"""What the quickstart fits by default, by the size and the feedback of a log."""

from types import SimpleNamespace

import pytest

from metarec_ray.config.experiment import load, override
from metarec_ray.engine import quickstart


def store(feedback: str, users: int, items: int = 500) -> SimpleNamespace:
    parts = {"train": users - users // 10, "valid": users // 10, "test": users // 4}
    manifest = SimpleNamespace(feedback=feedback, parts=parts)
    return SimpleNamespace(manifest=manifest, items=SimpleNamespace(ids=range(items)))


@pytest.mark.parametrize(
    ("feedback", "users", "items", "members"),
    [
        ("implicit", 500, 500, {"head", "ridge", "attention"}),
        ("implicit", 499, 500, {"head", "popularity", "ease"}),
        ("implicit", 120, 30_000, {"head", "popularity"}),
        ("implicit", 500, 30_000, {"head", "factors"}),
        ("explicit", 500, 500, {"head", "ridge"}),
        ("explicit", 499, 500, {"head", "bias"}),
    ],
)
def test_the_default_of_a_small_log_has_few_and_simple_members(
    feedback: str, users: int, items: int, members: set[str]
) -> None:
    found = quickstart._default(store(feedback, users, items))  # type: ignore[arg-type]
    assert set(found["members"]) == members
    assert set(override(load(None), {"blend": found}).members()) == members


def test_for_clicks_the_head_is_alone() -> None:
    assert quickstart._default(store("binary", 100)) == {}  # type: ignore[arg-type]
