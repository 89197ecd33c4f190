from datetime import date, time, timedelta
from decimal import Decimal

import polars as pl
import pytest

from metarec_ray.data.fields import FeatureField
from metarec_ray.data.log.features.encode import (
    ColumnStats,
    Encoder,
    canonical,
    column_stats,
    encode,
    is_not_finite,
    make_encoder,
)
from metarec_ray.data.settings import Feature
from metarec_ray.errors import DataError

CATEGORICAL = Feature(kind="categorical")
TAGS = Feature(kind="multi_categorical", separator="|")
NUMERIC = Feature(kind="numeric")
VECTOR = Feature(kind="vector")


def encoded(values: list[object], feature: Feature, train: list[object]) -> list[object]:
    column = canonical(pl.Series(values, strict=False), feature, "here")
    known = column_stats(canonical(pl.Series(train, strict=False), feature, "here"), feature)
    return encode(column, make_encoder("f", feature, known, place="here")).to_list()


def test_a_category_is_its_place_in_the_sorted_vocabulary_plus_one() -> None:
    assert encoded(["b", "a", "z", None], CATEGORICAL, ["b", "a"]) == [2, 1, 0, 0]


def test_integers_and_booleans_can_be_categories() -> None:
    assert encoded([10, 9], CATEGORICAL, [9, 10]) == [1, 2]  # "10" < "9" as text
    assert encoded([True, False], CATEGORICAL, [False, True]) == [2, 1]


def test_tags_are_split_sorted_and_made_unique() -> None:
    # 0 unknown, 1 comedy, 2 drama
    found = encoded(["drama|comedy|drama", "opera| comedy", "", None], TAGS, ["comedy", "drama"])
    assert found == [[1, 2], [0, 1], [], []]


def test_a_list_column_needs_no_separator() -> None:
    plain = Feature(kind="multi_categorical")
    assert encoded([["b", "a"], [], None], plain, [["a"], ["b"]]) == [[1, 2], [], []]


@pytest.mark.parametrize("whole", [[1.0, None, 3.0], [Decimal(1), None, Decimal("3.0")]])
def test_a_whole_number_is_one_category_with_or_without_a_gap(whole: list[object]) -> None:
    assert canonical(pl.Series(whole), CATEGORICAL, "here").to_list() == ["1", None, "3"]
    listed = pl.Series([whole, [], None])
    assert canonical(listed, Feature(kind="multi_categorical"), "here").to_list() == [
        ["1", "3"], [], None,
    ]  # fmt: skip


def test_categories_of_arrow_are_read_as_their_text() -> None:
    column = pl.Series(["1.5", None, "2"], dtype=pl.Categorical)
    assert canonical(column, CATEGORICAL, "here").to_list() == ["1.5", None, "2"]
    assert canonical(column, NUMERIC, "here").to_list() == [1.5, None, 2.0]


def test_text_is_read_as_what_the_feature_is() -> None:
    assert encoded(["[1, 4]", "(4,)", None], TAGS, [[1], [4]]) == [[1, 2], [2], []]
    assert canonical(pl.Series(["1.5", "", None]), NUMERIC, "here").to_list() == [1.5, None, None]
    for text, feature in (
        (["[0.5, 1]", None], VECTOR),
        (["0.5  1", None], Feature(kind="vector", separator=" ")),
    ):
        assert canonical(pl.Series(text), feature, "here").to_list() == [[0.5, 1.0], None]


def test_numbers_stay_raw_and_their_ranks_are_kept_aside() -> None:
    column = canonical(pl.Series([1.0, 2.0, None, float("nan"), 6.0]), NUMERIC, "here")
    found = make_encoder("f", NUMERIC, column_stats(column, NUMERIC), place="here")
    assert encode(column, found).to_list() == [1.0, 2.0, None, None, 6.0]
    assert found.field.knots == (1.0, 2.0, 6.0)
    assert found.field.ranks == pytest.approx((1 / 6, 3 / 6, 5 / 6))


def test_statistics_of_parts_add_up_to_those_of_the_whole() -> None:
    column = pl.Series([1.0, 2.0, 4.0, 2.0], dtype=pl.Float32)
    whole, *parts = (column_stats(part, NUMERIC) for part in (column, column[:1], column[1:]))
    assert parts[0].merge(parts[1]) == parts[1].merge(parts[0]) == whole
    assert ColumnStats().merge(*parts) == whole


def test_vectors_have_one_length() -> None:
    column = canonical(pl.Series([[1, 2], None, [3, 4]]), VECTOR, "here")
    assert make_encoder("f", VECTOR, column_stats(column, VECTOR), place="here").field.dim == 2
    ragged = canonical(pl.Series([[1.0], [2.0, 3.0]]), VECTOR, "here")
    with pytest.raises(DataError, match=r"must have one length, got \[1, 2\] \(here\)"):
        make_encoder("f", VECTOR, column_stats(ragged, VECTOR), place="here")


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        (CATEGORICAL, [0.5]),
        (CATEGORICAL, [2.0**53]),
        (Feature(kind="multi_categorical"), [[1.0, 0.5]]),
        (VECTOR, [["a"]]),
        (VECTOR, [1.0]),
        *(
            (Feature.model_validate({"kind": kind}), [value])
            for kind in ("categorical", "multi_categorical", "numeric", "vector")
            for value in (time(12), timedelta(1), b"x", {"a": 1}, date(2020, 1, 6))
        ),
    ],
)
def test_a_column_that_cannot_be_such_a_feature_is_refused(
    feature: Feature, values: list[object]
) -> None:
    with pytest.raises(DataError, match=rf"a {feature.kind} feature cannot be read .*\(here\)"):
        canonical(pl.Series(values), feature, "here")


def test_what_is_no_number_is_seen_in_numbers_and_vectors() -> None:
    nan = float("nan")
    cases = {
        "numeric": (pl.Float32, [1.0, None, float("inf")], [False, False, True]),
        "vector": (pl.List(pl.Float32), [[1.0], None, [nan], [1.0, None], []],
                   [False, False, True, True, False]),
        "categorical": (pl.String, ["inf", None], [False, False]),
    }  # fmt: skip
    for kind, (dtype, values, expected) in cases.items():
        frame = pl.DataFrame({"x": pl.Series(values, dtype=dtype)})
        broken = is_not_finite("x", Feature.model_validate({"kind": kind}))
        assert frame.with_columns(broken.alias("bad"))["bad"].to_list() == expected


def test_vectors_of_another_length_than_training_met_are_refused() -> None:
    column = pl.Series([[1.0, 2.0], None, [3.0]], dtype=pl.List(pl.Float32))
    field = FeatureField(name="place", kind="vector", dim=2)
    for place, told in ((None, "place"), ("data.context.place", "data.context.place")):
        with pytest.raises(DataError, match=rf"one length, got 1 beside 2 of training \({told}\)"):
            encode(column, Encoder(field, []), place=place)
    assert encode(column[:2], Encoder(field, [])).to_list() == [[1.0, 2.0], None]
    unmet = Encoder(field.model_copy(update={"dim": 0}), [])
    assert encode(column, unmet).to_list() == [None] * 3
