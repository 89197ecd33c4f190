"""A store made unit by unit: the bytes of the writer that holds a whole log in memory."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_ray.data.log import sources
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store import pipeline
from metarec_ray.data.store.manifest import Manifest, load, verify
from metarec_ray.data.store.planning import Run
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.domains import Domains, asked_items, items_by_value
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError

REPRODUCIBLE = settings(derandomize=True, deadline=None, database=None, max_examples=6)


def here(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Any]:
    return map(function, units)


def backwards(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Any]:
    return map(function, reversed(list(units)))


def build(asked: Data, store: Path, *, each=here, said: list[str] | None = None) -> Manifest:
    lines = [] if said is None else said
    made = pipeline.build(sources.find(asked), store, Run(each, each, lines.append))
    verify(store, made)
    assert load(store) == made
    return made


def log(users: int = 40, *, ids: Callable[[int], object] = int) -> pl.DataFrame:
    rows = [
        {
            "user": ids(user),
            "item": (user * 7 + n * n) % 23,
            "rating": float(1 + (user + n) % 5),
            "time": user * 50 + n * 3 % 11,
            "row": user * 10 + n,
            "hour": n % 4,
        }
        for user in range(users)
        for n in range(3 + user % 5)
    ]
    return pl.DataFrame(rows)


def asking(path: Path, **more: object) -> Data:
    fields: dict[str, object] = {
        "path": str(path),
        "columns": Columns(label="rating", time="time", sequence="row"),
        "label_min": 2.0,
        "context": {"hour": Feature(kind="categorical")},
        "buckets": 4,
    }
    return Data.model_validate(fields | more)


def in_files(folder: Path, parts: Sequence[pl.DataFrame], *, groups: int = 30) -> Path:
    folder.mkdir()
    for number, part in enumerate(parts):
        part.write_parquet(folder / f"{number}.parquet", row_group_size=groups)
    return folder


def test_units_write_the_bytes_of_a_log_in_memory(tmp_path: Path) -> None:
    rows = log().with_columns(rating=pl.when(pl.col("row") != 31).then("rating"))
    folder = in_files(tmp_path / "log", [rows[::2], rows[1::2], rows[:4]])
    items = pl.DataFrame({"id": range(30), "colour": [f"c{n % 3}" for n in range(30)]})
    items.write_parquet(tmp_path / "items.parquet")
    side = SideTable(
        path=str(tmp_path / "items.parquet"),
        id="id",
        features={"colour": Feature(kind="categorical")},
    )
    asked = asking(folder, items=side, max_bad_share=0.5, max_events=4)
    units = build(asked, tmp_path / "units")
    whole = build_store(read_log(asked), asked, tmp_path / "whole")
    assert units.files == whole.files  # the quarantine too
    assert units.counts == whole.counts
    assert units.counts.quarantined.keys() == {
        "history is longer than data.max_events",
        "label is missing",
    }
    assert units.features == whole.features


IDS = st.sampled_from(
    [
        int,
        lambda user: 2**24 + user,  # what float32 cannot tell apart
        lambda user: 2**53 + user,  # nor float64
        lambda user: -(2**62) + user,
        lambda user: f"Zoë-{user:03d}-東京",
        lambda user: "long " * 2000 + str(user),
    ]
)


@REPRODUCIBLE
@given(data=st.data(), ids=IDS, pieces=st.integers(1, 4), again=st.integers(0, 30))
def test_order_files_repetition_and_workers_do_not_change_a_store(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    ids: Callable[[int], object],
    pieces: int,
    again: int,
) -> None:
    rows, folder = log(ids=ids), tmp_path_factory.mktemp("store")
    one = build(asking(in_files(folder / "one", [rows])), folder / "store")
    order = data.draw(st.permutations(range(len(rows))))
    mixed = pl.concat([rows[order], rows[:again]])
    parts = [mixed[number::pieces] for number in range(pieces)]
    groups = data.draw(st.integers(5, 200))
    path = in_files(folder / "other", parts, groups=groups)
    other = build(asking(path), folder / "other store", each=backwards)
    assert other.store_sha256 == one.store_sha256
    assert other.counts.rows_in == one.counts.rows_in + again
    assert one.tasks == 40
    found = pl.read_parquet(one.file(folder / "store", "entities.parquet"))
    assert set(found["id"]) == {str(ids(user)) for user in range(40)}


def test_zero_is_zero_whatever_its_sign(tmp_path: Path) -> None:
    rows = log().with_columns(rating=pl.lit(0.0), heat=pl.lit(0.0))
    both = pl.concat([rows, rows.with_columns(-pl.col("rating", "heat"))])
    hashes = set()
    for number, turned in enumerate((both, both[::-1])):
        folder = in_files(tmp_path / f"log{number}", [turned])
        context = {"heat": Feature(kind="numeric")}
        asked = asking(folder, label_min=None, feedback="explicit", context=context)
        hashes.add(build(asked, tmp_path / f"store{number}").store_sha256)
    assert len(hashes) == 1


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    rows = log(200)
    number = pl.int_range(pl.len())
    dirty = rows.with_columns(
        rating=pl.when(number % 50 == 3).then(float("nan")).otherwise("rating"),
        item=pl.when(number % 50 == 7).then(None).otherwise("item"),
        user=pl.when(number % 50 == 11).then(None).otherwise("user"),
        time=pl.when(number % 50 == 13).then(2**62).otherwise("time"),
    )
    again = rows[::40]
    asked = asking(in_files(tmp_path / "log", [dirty, again]), max_bad_share=0.2)
    made = build(asked, tmp_path / "store")
    counts = made.counts
    aside = counts.filtered + counts.collapsed + sum(counts.quarantined.values())
    assert counts.rows_in == len(dirty) + len(again) == counts.kept + aside
    places = [(np % 50) for np in range(len(dirty))]
    low = [rating < 2 for rating in rows["rating"]]
    expected = {
        "entity is missing": sum(p == 11 and not f for p, f in zip(places, low, strict=True)),
        "item is missing": sum(p == 7 and not f for p, f in zip(places, low, strict=True)),
        "label is not a finite number": places.count(3),
        "time is out of range": sum(p == 13 and not f for p, f in zip(places, low, strict=True)),
    }
    assert counts.quarantined == expected
    listed = pl.read_parquet(made.file(tmp_path / "store", "quarantine.parquet"))
    assert len(listed) == sum(expected.values())
    assert listed["file"].unique().to_list() == ["0.parquet"]


class Killed(BaseException):
    """What no code catches."""


def killed_after(limit: int) -> Callable:
    done = 0

    def each(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Any]:
        nonlocal done
        for unit in units:
            if done == limit:
                raise Killed
            done += 1
            yield function(unit)

    return each


@pytest.fixture(scope="module")
def in_two_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    return in_files(folder / "log", [log()[::2], log()[1::2]], groups=1000)


@pytest.fixture(scope="module")
def at_once(in_two_files: Path) -> Manifest:
    """The store of three buckets that was never killed."""
    return build(asking(in_two_files, buckets=3), in_two_files.parent / "at once")


@pytest.mark.parametrize("units", [0, 1, 3, 7, 10])
def test_a_build_that_was_killed_goes_on_where_it_was(
    tmp_path: Path, in_two_files: Path, at_once: Manifest, units: int
) -> None:
    first = build(asking(in_two_files), tmp_path / "store")
    asked = asking(in_two_files, buckets=3)
    with pytest.raises(Killed):
        build(asked, tmp_path / "store", each=killed_after(min(units, 10)))
    assert load(tmp_path / "store") == first
    verify(tmp_path / "store", first)
    marks = {
        path: path.stat().st_mtime_ns
        for kind in ("scan", "group", "write")
        for path in (tmp_path / "store" / ".building").glob(f"*/{kind}-*")
    }
    kept: dict[Path, int] = {}

    def each(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Any]:
        for unit in units:
            yield function(unit)
            kept.update({p: p.stat().st_mtime_ns for p in marks if p.exists()})

    made = build(asked, tmp_path / "store", each=each)
    assert made.store_sha256 == at_once.store_sha256
    assert made.counts == at_once.counts
    assert kept == marks  # what was done was not done again


def test_lines_tell_phase_units_rows_and_memory(tmp_path: Path) -> None:
    said: list[str] = []
    rows = log().with_columns(time=pl.col("time") + 1_600_000_000)
    build(asking(in_files(tmp_path / "log", [rows])), tmp_path / "store", said=said)
    assert [line.split(" rows")[0] for line in said] == [
        f"prepare: read 1 of 1 chunks, {len(log())}",
        *(
            f"prepare: {phase} 4 of 4 buckets, {(log()['rating'] >= 2).sum()}"
            for phase in ("grouped", "wrote")
        ),
    ]
    assert all("rows/s" in line and "MiB a worker in" in line for line in said)


def test_a_log_without_rows_is_refused(tmp_path: Path) -> None:
    log().clear().write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match="a log must hold rows, got none"):
        build(asking(tmp_path / "log.parquet"), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def in_domains(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        shop=pl.when(pl.col("item") < 11).then(pl.lit("book")).otherwise(pl.lit("film"))
    )


def test_an_item_has_the_domain_of_its_rows(tmp_path: Path) -> None:
    rows = in_domains(log())
    columns = Columns(label="rating", time="time", sequence="row", domain="shop")
    asked = asking(in_files(tmp_path / "log", [rows[::2], rows[1::2]]), columns=columns)
    made = build(asked, tmp_path / "store")
    assert made.files == build_store(read_log(asked), asked, tmp_path / "whole").files
    store = TaskStore.open(tmp_path / "store")
    words = store.vocabularies["item"]["domain"]
    assert words == ["book", "film"]
    inside = items_by_value(store, "domain", key="x")
    assert [store.items.ids[i] for i in inside["book"].nonzero()[:, 0]] == [
        str(i) for i in range(11)
    ]
    domains = Domains(weights={"book": 1.0, "film": 1.0})
    assert asked_items(store, domains).keys() == {"book", "film"}


def test_domains_that_cannot_be_are_refused(tmp_path: Path) -> None:
    columns = Columns(label="rating", time="time", sequence="row", domain="shop")
    rows = in_domains(log())
    two = rows.with_columns(
        shop=pl.when(pl.col("row") == 70).then(pl.lit("film")).otherwise("shop")
    )
    assert two.filter(pl.col("row") == 70)["item"].to_list() == [3]
    asked = asking(in_files(tmp_path / "two", [two]), columns=columns)
    with pytest.raises(
        DataError, match=r"item must lie in one domain .*got 3 in 'book' and in 'film'"
    ):
        build(asked, tmp_path / "store")
    none = rows.with_columns(shop=pl.when(pl.col("row") == 71).then(pl.lit("")).otherwise("shop"))
    made = build(
        asking(in_files(tmp_path / "none", [none]), columns=columns, max_bad_share=0.5),
        tmp_path / "s",
    )
    assert made.counts.quarantined == {}  # other rows tell the item's domain
    side = SideTable(path="items.csv", id="id", features={"domain": Feature(kind="categorical")})
    with pytest.raises(ValueError, match=r"in the log .*or in their table .*, got both"):
        asking(tmp_path, columns=columns, items=side)
    with pytest.raises(ValueError, match="needs entity: user, got item"):
        asking(tmp_path, columns=columns, entity="item")


def test_sessions_are_tasks(tmp_path: Path) -> None:
    towns = pl.DataFrame({"id": range(40), "town": [f"t{n % 3}" for n in range(40)]})
    towns.write_parquet(tmp_path / "users.parquet")
    side = SideTable(
        path=str(tmp_path / "users.parquet"),
        id="id",
        features={"town": Feature(kind="categorical")},
    )
    rows = log().with_columns(time=pl.col("time") + 100 * (pl.col("row") % 10 > 2))
    asked = asking(in_files(tmp_path / "log", [rows[::3], rows[1::3], rows[2::3]]),
                   users=side, session_gap=40, label_min=None)  # fmt: skip
    made = build(asked, tmp_path / "store")
    assert made.files == build_store(read_log(asked), asked, tmp_path / "whole").files
    kept = rows.unique(["user", "item", "time"]).sort("user", "time")
    new = (pl.col("time").diff() > 40) | (pl.col("user") != pl.col("user").shift(1))
    assert made.tasks == kept.select(new.fill_null(True).sum()).item() > 40
    assert made.ids == ("integer", "integer")
    store = TaskStore.open(tmp_path / "store")
    histories = store.histories(cut=False)
    for task, name in enumerate(store.entity_ids()):
        user, begins = name.split("@")
        assert store.user_fields(task)["town"] == f"t{int(user) % 3}"
        assert histories.time[histories.offsets[task]] == int(begins)


def test_sessions_and_spans_need_a_clock(tmp_path: Path) -> None:
    columns = Columns(label="rating")
    folder = in_files(tmp_path / "log", [log()])
    for more in ({"session_gap": 5}, {"since": "2024-01-01"}):
        name = next(iter(more))
        with pytest.raises(DataError, match=rf"time must be named for data.{name}, got none"):
            sources.find(asking(folder, columns=columns, **more))


def test_any_column_can_be_the_entity(tmp_path: Path) -> None:
    folder = in_files(tmp_path / "log", [log()])
    columns = Columns(entity="hour", label="rating", time="time", sequence="row")
    made = build(asking(folder, columns=columns, split="hash", valid_share=0.4), tmp_path / "store")
    assert (made.entity, made.tasks) == ("hour", 4)
