from datetime import UTC, date, datetime

import polars as pl
import pytest

from metarec_ray.data.files import parts
from metarec_ray.data.log import validate
from metarec_ray.data.log.validate import Checked
from metarec_ray.data.settings import Columns, Data, Feature
from metarec_ray.errors import DataError

RATED = Columns(label="rating", time="time")
LOG = {"user": [1, 2, 3], "item": ["a", "b", "c"], "rating": [5.0, 3.0, 4.0], "time": [10, 20, 30]}


def rated(**columns: list[object]) -> pl.DataFrame:
    return pl.DataFrame(LOG | columns, strict=False)


def check(
    raw: pl.DataFrame,
    settings: Data,
    *,
    file: str = "log.csv",
    first: int = 0,
    since: int | None = None,
) -> Checked:
    part = next(parts.plain(iter([raw]), first))
    return validate.check(part, settings, file=file, since=since)


def reasons(raw: pl.DataFrame, settings: Data) -> list[tuple[int, str, str]]:
    rejected = check(raw, settings, file="log.csv").rejected
    return list(rejected.select("row", "reason", "value").iter_rows())


def test_a_clean_log_is_kept_in_canonical_columns() -> None:
    found = check(rated(), Data(feedback="explicit", columns=RATED), file="log.csv")
    assert dict(found.events.schema) == {
        "entity": pl.Int64,
        "item": pl.String,
        "label": pl.Float32,
        "time": pl.Int64,
        "sequence": pl.Int64,
    }
    assert found.events["time"].to_list() == [10_000_000, 20_000_000, 30_000_000]
    assert not any(found.tally.filtered.values())
    assert found.rejected.is_empty()


def test_small_labels_are_filtered_before_anything_else_is_judged() -> None:
    raw = rated(time=[10, None, None])
    settings = Data(label_min=4.0, columns=RATED)
    found = check(raw, settings, file="log.csv")
    # Row 1: 3.0 < 4.0, its missing time is not held against it.
    assert found.tally.filtered == {"label_min": 1}
    assert reasons(raw, settings) == [(2, "time is missing", "null")]
    assert found.events["label"].to_list() == [1.0]  # a kept implicit event is a positive


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("rating", float("nan"), "label is not a finite number"),
        ("rating", float("inf"), "label is not a finite number"),
        ("rating", None, "label is missing"),
        ("time", float("inf"), "time is not a finite number"),
        ("time", float("nan"), "time is not a finite number"),
        ("time", 1e18, "time is out of range"),
        ("item", "", "item is missing"),
        ("item", None, "item is missing"),
        ("user", None, "entity is missing"),
    ],
)
def test_a_bad_value_is_quarantined_with_its_row_and_reason(
    column: str, value: object, reason: str
) -> None:
    good = LOG[column]
    raw = rated(**{column: [good[0], value, good[2]]})
    found = reasons(raw, Data(feedback="explicit", columns=RATED))
    assert [row[:2] for row in found] == [(1, reason)]
    assert found[0][2] == ("null" if value is None else str(value))


def test_a_string_that_is_no_number_is_quarantined_and_not_parsed_as_zero() -> None:
    raw = rated(rating=["5", "many", "4"])
    found = check(raw, Data(feedback="explicit", columns=RATED), file="log.csv")
    assert found.rejected["value"].to_list() == ["many"]
    assert found.events["label"].to_list() == [5.0, 4.0]


def test_a_click_is_zero_or_one() -> None:
    raw = rated(rating=[0, 1, 2])
    assert reasons(raw, Data(feedback="binary", columns=RATED)) == [
        (2, "label is neither 0 nor 1", "2")
    ]


def test_row_numbers_continue_where_the_chunk_begins() -> None:
    settings = Data(feedback="explicit", columns=RATED)
    found = check(rated(rating=[1.0, None, 1.0]), settings, file="log.csv", first=100)
    assert found.rejected.row(0)[:4] == ("log.csv", 101, "label is missing", "null")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user", [1.5, 2.0, 3.0], r"entity ids must be integers or strings, got Float64 1.5 \(col"),
        ("item", [[1], [2], [3]], "item ids must be integers or strings"),
        (
            "rating",
            [[1.0], [2.0], [3.0]],
            r"label must be a number, got List\(Fl.* rating of",
        ),
        ("time", ["1/2/20"] * 3, r"one reading, got '1/2/20' \(column time of log.csv\)"),
    ],
)
def test_a_column_of_the_wrong_type_is_refused(
    column: str, values: list[object], message: str
) -> None:
    raw = pl.DataFrame(LOG | {column: values})
    with pytest.raises(DataError, match=message):
        check(raw, Data(feedback="explicit", columns=RATED), file="log.csv")


@pytest.mark.parametrize(
    "moments",
    [
        pl.Series(["1970-01-01T00:00:10Z", "1970-01-01 00:00:20Z", "1970-01-01T00:00:30Z"]),
        pl.Series([10_000, 20_000, 30_000]).cast(pl.Datetime("ms")),
        pl.Series([10_000, 20_000, 30_000]).cast(pl.Datetime("ms", "Asia/Tokyo")),
    ],
)
def test_timestamps_become_utc_microseconds(moments: pl.Series) -> None:
    raw = rated().with_columns(moments.alias("time"))
    settings = Data(feedback="explicit", columns=RATED)
    events = check(raw, settings, file="log.csv").events
    assert events["time"].to_list() == [10_000_000, 20_000_000, 30_000_000]


def test_a_unit_other_than_seconds_is_honoured() -> None:
    settings = Data(feedback="explicit", columns=RATED, time_unit="ms")
    assert check(rated(), settings, file="f").events["time"].to_list() == [10_000, 20_000, 30_000]


def test_context_columns_are_carried_in_canonical_types() -> None:
    heat: list[object] = [0.5, float("inf"), float("nan")]
    raw = rated(hour=[1, None, 3], **{"how hot": heat})
    context = {"hour": Feature(kind="categorical"), "how hot": Feature(kind="numeric")}
    settings = Data(feedback="explicit", columns=RATED, context=context)
    found = check(raw, settings, file="log.csv")
    assert found.events["context.hour"].to_list() == ["1", "3"]
    assert found.events["context.how hot"].to_list() == [0.5, None]
    assert found.rejected.row(0)[:4] == ("log.csv", 1, "how hot is not a finite number", "inf")


def test_kinds_of_events_have_weights_and_others_are_filtered() -> None:
    raw = pl.DataFrame(
        {"user": [1] * 5, "item": range(5), "what": ["view", "buy", "hover", None, "view"]}
    )
    settings = Data(
        feedback="explicit",
        columns=Columns(event="what"),
        event_weights={"view": 1.0, "buy": 5.0},
        label_min=2.0,
    )
    found = check(raw, settings, file="log.csv")
    assert found.events["label"].to_list() == [5.0]
    assert found.tally.filtered == {
        "event_weights": 1,
        "label_min": 2,
    }  # hover, and both views by `label_min`
    assert found.rejected.select("row", "reason", "value").rows() == [
        (3, "event is missing", "null")
    ]


@pytest.mark.parametrize(
    ("columns", "weights", "message"),
    [
        (Columns(event="what"), {}, "columns.event and event_weights must be given together"),
        (Columns(), {"view": 1.0}, "columns.event and event_weights must be given together"),
        (Columns(event="what", label="stars"), {"view": 1.0}, "a label or an event, got both"),
    ],
)
def test_events_need_weights(columns: Columns, weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Data(columns=columns, event_weights=weights)


def stamps(times: pl.Series, **more: object) -> tuple[list[int], list[str]]:
    raw = pl.DataFrame({"user": [1] * len(times), "item": range(len(times)), "at": times})
    settings = Data.model_validate({"columns": Columns(time="at"), **more})
    found = check(raw, settings, file="log.csv")
    return found.events["time"].to_list(), found.rejected["reason"].to_list()


def test_times_without_a_zone_are_in_the_zone_of_the_config() -> None:
    # Berlin left summer time on 2024-10-27 at 3 h, which it had twice from 2 h on, and skipped the
    # hour from 2 h on 2024-03-31.
    text = ["2024-10-27 02:30:00", "2024-10-27 03:00:00", "2024-03-31 02:30:00"]
    expected = [
        int(datetime(2024, 10, 27, h, m, tzinfo=UTC).timestamp()) for h, m in ((0, 30), (2, 0))
    ]
    for times in (pl.Series(text), pl.Series(text).str.to_datetime()):
        found, reasons = stamps(times, time_zone="Europe/Berlin")
        assert found == [10**6 * second for second in expected]
        assert reasons == ["time is one that data.time_zone skips"]


def test_a_time_with_a_zone_keeps_it() -> None:
    times = pl.Series(["2024-01-01 12:00:00"]).str.to_datetime(time_zone="Asia/Tokyo")
    found, _ = stamps(times, time_zone="Europe/Berlin")
    assert found == [10**6 * int(datetime(2024, 1, 1, 3, tzinfo=UTC).timestamp())]


def test_what_a_text_says_of_time_does_not_depend_on_its_neighbours() -> None:
    noon = 10**6 * int(datetime(2024, 5, 1, 12, tzinfo=UTC).timestamp())
    texts = {
        "2024-05-01T12:00:00": noon,
        "2024-05-01T12:00:00.25": noon + 250_000,
        "2024-05-01T12:00:00Z": noon,
        "2024-05-01T14:00:00+02:00": noon,
        "2024-05-01T14:00:00.5+0200": noon + 500_000,
        "2024-05-01": noon - 12 * 3600 * 10**6,
        "17": None,  # where there are dates, a number is none
        "soon": None,
    }
    for turn in range(len(texts)):
        turned = [*texts][turn:] + [*texts][:turn]
        found, reasons = stamps(pl.Series(turned))
        assert found == [texts[one] for one in turned if texts[one] is not None]
        assert reasons == ["time is not a date that can be read"] * 2


@pytest.mark.parametrize(("unit", "factor"), [("s", 10**6), ("ms", 10**3), ("us", 1)])
def test_units_are_brought_to_microseconds(unit: str, factor: int) -> None:
    assert stamps(pl.Series([7, 8]), time_unit=unit)[0] == [7 * factor, 8 * factor]
    assert stamps(pl.Series([7_999, 2**53 + 1]), time_unit="ns")[0] == [7, (2**53 + 1) // 1000]
    beside = pl.Series(["1700000000000001999", "never", "1.5e18"])
    found, reasons = stamps(beside, time_unit="ns")
    assert found == [1_700_000_000_000_001, 1_500_000_000_000_000]
    assert reasons == ["time is not a finite number"]


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of the IANA names, got 'Mars'"):
        Data(time_zone="Mars")


def test_rows_of_other_times_are_filtered_whatever_else_is_wrong_with_them() -> None:
    raw = pl.DataFrame(
        {
            "user": [1, 1, None, 1, None],
            "item": [1, 2, 3, 4, 5],
            "rating": [5.0, 4.0, 3.0, float("nan"), 1.0],
            "time": [86_399.0, 86_400.0, 86_400.0, 172_800.0, None],
        }
    )
    asked = Data(feedback="explicit", columns=RATED, since="1970-01-02", until="1970-01-03")
    found = check(raw, asked, file="log.csv")
    assert found.events["item"].to_list() == [2]
    assert found.tally.filtered == {"since": 1, "until": 1}
    assert found.rejected["reason"].to_list() == ["entity is missing", "entity is missing"]
    assert check(raw, asked, file="log.csv", since=10**12).tally.filtered == {
        "since": 1,
        "--since": 3,
        "until": 0,
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"since": "yesterday"},
            "a date or a time is needed, as 2024-05-31T12:00, got 'yesterday'",
        ),
        ({"until": 5}, "a date or a time is needed"),
        ({"since": "2024-01-02", "until": "2024-01-02"}, "since must be before until"),
    ],
)
def test_a_span_of_time_that_is_none_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Data(**fields)


def test_a_day_of_yaml_is_a_moment_in_the_zone_of_the_log() -> None:
    asked = Data.model_validate({"since": date(1970, 1, 2), "time_zone": "Europe/Berlin"})
    assert asked.since == "1970-01-02"
    assert asked.span == (82_800 * 10**6, None)
