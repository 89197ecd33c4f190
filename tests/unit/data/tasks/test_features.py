import math

import pyarrow as pa
import pytest
import torch

from metarec_ray.data.fields import FeatureField
from metarec_ray.data.tasks.features import FeatureSpace, encode_record, stack
from metarec_ray.errors import RequestError

# Rows of the token table: 0 padding, 1..3 town (1 unknown), 4..7 tags (4 unknown).
SPACE = FeatureSpace(
    [
        FeatureField(name="town", kind="categorical", size=2),
        FeatureField(name="tags", kind="multi_categorical", size=3),
        FeatureField(name="age", kind="numeric", dim=1, mean=30.0, std=10.0),
        FeatureField(name="place", kind="vector", dim=2),
    ]
)
WORDS = {"town": ["oslo", "rome"], "tags": ["a", "b", "c"]}


def columns(town: list[int | None], tags: list, age: list, place: list) -> dict[str, pa.Array]:
    return {
        "town": pa.array(town, pa.int32()),
        "tags": pa.array(tags, pa.list_(pa.int32())),
        "age": pa.array(age, pa.float32()),
        "place": pa.array(place, pa.list_(pa.float32())),
    }


def test_every_field_has_its_own_rows_and_one_for_the_unknown() -> None:
    assert SPACE.first_row == {"town": 1, "tags": 4}
    assert SPACE.tokens == 1 + (2 + 1) + (3 + 1)
    assert SPACE.dense == 1 + 2


def test_columns_become_a_bag_of_tokens_and_a_dense_vector() -> None:
    found = SPACE.encode(columns([2, None], [[1, 3], []], [50.0, None], [[0.5, -1.0], None]), 2)
    assert found.tokens.tolist() == [[1 + 2, 4 + 1, 4 + 3], [1 + 0, 0, 0]]
    half = 1 / math.sqrt(2)
    torch.testing.assert_close(found.weights, torch.tensor([[1, half, half], [1, 0, 0]]))
    assert found.dense.tolist() == [[(50 - 30) / 10, 0.5, -1.0], [0.0, 0.0, 0.0]]


def test_ranks_keep_a_number_within_bounds_and_moments_of_older_stores_are_read() -> None:
    field = FeatureField(
        name="price", kind="numeric", dim=1, knots=(1.0, 2.0, 4.0), ranks=(0.1, 0.5, 0.9)
    )
    prices = pa.array([0.0, 1.0, 2.0, 3.0, 4.0, 1e6, None], pa.float32())
    found = FeatureSpace([field]).encode({"price": prices}, 7).dense.flatten()
    ranks = torch.tensor([0.1, 0.1, 0.5, (0.5 + 0.9) / 2, 0.9, 0.9, 0.5])
    torch.testing.assert_close(found, (ranks - 0.5) * math.sqrt(12))
    old = FeatureField.model_validate(
        {"name": "price", "kind": "numeric", "dim": 1, "mean": 2, "std": 4}
    )
    assert FeatureSpace([old]).encode({"price": prices}, 7).dense[4].item() == (4 - 2) / 4


def test_a_slice_of_a_column_is_encoded_as_its_own_rows() -> None:
    whole = columns([1, 2, 0], [[1], [2, 3], []], [30.0, 40.0, 20.0], [[1, 2], [3, 4], None])
    tail = SPACE.encode({name: column.slice(1) for name, column in whole.items()}, 2)
    expected = SPACE.encode(columns([2, 0], [[2, 3], []], [40.0, 20.0], [[3, 4], None]), 2)
    for found, wanted in zip(tail, expected, strict=True):
        assert found.tolist() == wanted.tolist()


def test_a_space_without_fields_is_zero_wide() -> None:
    found = FeatureSpace([]).encode({}, 3)
    assert [tuple(column.shape) for column in found] == [(3, 0), (3, 0), (3, 0)]


def test_a_record_of_raw_values_is_encoded_like_the_store() -> None:
    record = {"town": "rome", "tags": ["c", "a", "c"], "age": 50, "place": [0.5, -1]}
    found = encode_record(SPACE, WORDS, record, "user")
    stored = SPACE.encode(columns([2], [[1, 3]], [50.0], [[0.5, -1.0]]), 1)
    for one, other in zip(found, stored, strict=True):
        assert one.tolist() == other.tolist()


def test_values_never_seen_are_unknown_and_absent_fields_missing() -> None:
    found = encode_record(SPACE, WORDS, {"town": "paris", "tags": "b"}, "user")
    assert found.tokens.tolist() == [[1, 4 + 2]]
    assert found.dense.tolist() == [[0.0, 0.0, 0.0]]
    # With a vocabulary or without: nothing known is nothing known.
    nothing = encode_record(SPACE, WORDS, {}, "user")
    assert [column.tolist() for column in SPACE.missing()] == [c.tolist() for c in nothing]


def test_records_with_bags_of_different_sizes_stack() -> None:
    one = encode_record(SPACE, WORDS, {"tags": ["a"]}, "context")
    three = encode_record(SPACE, WORDS, {"tags": ["a", "b", "c"]}, "context")
    found = stack([one, three])
    assert found.tokens.tolist() == [[1, 5, 0, 0], [1, 5, 6, 7]]
    assert found.weights[0].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert tuple(found.dense.shape) == (2, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shoe": 1}, r"user fields must be among \['age', 'place', 'tags', 'town'\], got 'shoe'"),
        ({"town": 1.5}, "user field 'town' must be categorical"),
        ({"town": ["oslo"]}, "user field 'town' must be categorical"),
        ({"tags": 0.5}, "user field 'tags' must be multi-categorical"),
        ({"tags": [None]}, "user field 'tags' must be multi-categorical"),
        ({"age": "old"}, "user field 'age' must be numeric"),
        ({"age": True}, "user field 'age' must be numeric"),
        ({"age": float("nan")}, "user field 'age' must be numeric"),
        ({"age": 10**400}, "user field 'age' must be numeric"),
        ({"age": 1e300}, "user field 'age' must be numeric"),
        ({"place": [1.0]}, "user field 'place' must be vector"),
        ({"place": 3}, "user field 'place' must be vector"),
        ({"place": [1.0, float("inf")]}, "user field 'place' must be vector"),
    ],
)
def test_a_field_of_another_kind_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        encode_record(SPACE, WORDS, fields, "user")


def test_a_vector_that_training_never_met_is_zero_wide() -> None:
    space = FeatureSpace([FeatureField(name="place", kind="vector", dim=0)])
    for values in ([None, None], []):
        found = space.encode({"place": pa.array(values, pa.list_(pa.float32()))}, len(values))
        assert found.dense.shape == (len(values), 0)
    assert space.missing().dense.shape == (1, 0)
