"""Adding what is new to a store: what stays, what moves, what is shared."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from metarec_ray.data.inspection.describe import describe
from metarec_ray.data.log import sources
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store import pipeline
from metarec_ray.data.store.append import append, instant
from metarec_ray.data.store.manifest import Manifest, load, verify
from metarec_ray.data.store.planning import Run
from metarec_ray.data.store.previous import Previous
from metarec_ray.data.tasks.domains import items_by_value
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError

US = 1_000_000


def here(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Any]:
    return map(function, units)


RUN = Run(here, here, lambda _: None)


def log(users: range, at: int) -> pl.DataFrame:
    """Return four events of each user, from an instant on."""
    return pl.DataFrame(
        [
            {
                "user": f"u{user:02d}",
                "item": (user * 5 + n * n + at) % 17,
                "stars": float(1 + (user + n) % 5),
                "at": at + user + 20 * n,
                "hour": f"h{(at + n) % 6}",
                "heat": float(n) if n else None,
                "tags": [f"t{at % 5}", "all"] if n else [],
                "place": [float(user), 1.0],
            }
            for user in users
            for n in range(4)
        ]
    )


OLD, NEW = log(range(30), 0), log(range(25, 32), 1000)


def asking(folder: Path, **more: object) -> Data:
    kind = {name: Feature(kind=name) for name in ("categorical", "numeric", "vector")}
    fields: dict[str, object] = {
        "path": str(folder / "log"),
        "feedback": "explicit",
        "columns": Columns(label="stars", time="at"),
        "context": {
            "hour": kind["categorical"],
            "heat": kind["numeric"],
            "tags": Feature(kind="multi_categorical"),
            "place": kind["vector"],
        },
        "items": SideTable(path="items.csv", id="id", features={"colour": kind["categorical"]}),
        "users": SideTable(path="users.csv", id="id", features={"town": kind["categorical"]}),
        "buckets": 4,
    }
    return Data.model_validate(fields | more)


def sides(folder: Path, colours: str, towns: str) -> None:
    colour = {"id": range(20), "colour": [f"{colours}{n % 3}" for n in range(20)]}
    pl.DataFrame(colour).write_csv(folder / "log" / "items.csv")
    town = {"id": [f"u{n:02d}" for n in range(40)], "town": [f"{towns}{n % 2}" for n in range(40)]}
    pl.DataFrame(town).write_csv(folder / "log" / "users.csv")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log, its side tables, and a store of it."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "log").mkdir()
    OLD.write_parquet(folder / "log" / "old.parquet")
    sides(folder, "blue", "x")
    pipeline.build(sources.find(asking(folder)), folder / "store", RUN)
    return folder


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return shutil.copytree(begun, tmp_path, dirs_exist_ok=True)


def grown(folder: Path, rows: pl.DataFrame = NEW, **more: object) -> Manifest:
    """Add a file to the log, and what is in it to the store."""
    rows.write_parquet(folder / "log" / "new.parquet")
    source = sources.find(asking(folder))
    made = append(source, folder / "store", RUN, **more)  # type: ignore[arg-type]
    verify(folder / "store", made)
    assert load(folder / "store") == made
    return made


def events(store: Path, version: int | None = None) -> pl.DataFrame:
    """Return all events with raw ids and values, in the order of histories."""
    previous = Previous(store, load(store, version))
    parts = [previous.rows(bucket) for bucket in range(previous.manifest.buckets)]
    whole = pl.concat(parts).drop("sequence")
    return whole.with_row_index().sort("entity", "index", maintain_order=True).drop("index")


def test_the_past_is_the_log_again(folder: Path) -> None:
    expected = OLD.sort("user", "at").rename({"user": "entity", "stars": "label"})
    found = events(folder / "store")
    assert found["entity"].to_list() == expected["entity"].to_list()
    assert found["item"].to_list() == expected["item"].to_list()
    assert found["label"].to_list() == expected["label"].to_list()
    assert (found["time"] // US).to_list() == expected["at"].to_list()
    assert found["context.heat"].to_list() == expected["heat"].to_list()
    assert found["context.place"].to_list() == expected["place"].to_list()
    store = TaskStore.open(folder / "store")
    known = store.vocabularies["context"]["hour"]
    hours = [hour if hour in known else None for hour in expected["hour"]]
    assert found["context.hour"].to_list() == hours
    words = set(store.vocabularies["context"]["tags"])
    tags = [sorted(words.intersection(own)) for own in expected["tags"].to_list()]
    assert [one or [] for one in found["context.tags"].to_list()] == tags


def test_what_is_added_is_what_a_new_store_would_hold(folder: Path) -> None:
    made = grown(folder)
    anew = pipeline.build(sources.find(asking(folder)), folder / "anew", RUN)
    columns = ["entity", "item", "label", "time", "context.heat", "context.place"]
    assert events(folder / "store")[columns].equals(events(folder / "anew")[columns])
    assert made.counts == anew.counts.model_copy(update={"rows_in": made.counts.rows_in,
                                                         "collapsed": len(OLD)})  # fmt: skip
    assert made.counts.rows_in == len(OLD) + len(OLD) + len(NEW)  # the old file is read again
    assert (made.tasks, made.events, made.cutoff) == (anew.tasks, anew.events, anew.cutoff)
    assert made.parts == anew.parts
    said = describe(folder / "store")["no query before its support"]
    assert isinstance(said, dict)
    assert said["histories in order of time"] == "32 of 32"


def test_numbers_stay_and_new_ones_come_after_them(folder: Path) -> None:
    before = TaskStore.open(folder / "store")
    sides(folder, "aqua", "a")  # would come first in the order of values
    grown(folder)
    after = TaskStore.open(folder / "store")
    assert after.entity_ids()[: len(before.entity_ids())] == before.entity_ids()
    assert after.entity_ids()[len(before.entity_ids()) :] == ["u30", "u31"]
    assert after.items.ids[: len(before.items.ids)] == before.items.ids
    for side, features in before.vocabularies.items():
        for name, values in features.items():
            assert after.vocabularies[side][name][: len(values)] == values
    colours = after.vocabularies["item"]["colour"]
    assert colours == ["blue0", "blue1", "blue2", "aqua0", "aqua1", "aqua2"]
    heat = [
        next(f for f in store.manifest.features["context"] if f.name == "heat")
        for store in (before, after)
    ]
    assert heat[0].knots
    assert heat[0] == heat[1]


def test_buckets_without_news_are_shared_and_the_old_version_reads_whole(folder: Path) -> None:
    old = events(folder / "store")
    one = NEW.filter(pl.col("user") == "u29")  # a test entity before and after
    made = grown(folder, one, since=999 * US)
    first = load(folder / "store", 1)
    shared = [n for n in made.files if made.files[n] == first.files.get(n) and "bucket" in n]
    assert len(shared) == 3
    assert made.version == 2
    assert events(folder / "store", 1).equals(old)
    assert made.counts.filtered == len(OLD)
    assert made.counts.collapsed == 0
    counts = made.counts
    aside = counts.filtered + counts.collapsed + sum(counts.quarantined.values())
    assert counts.rows_in == counts.kept + aside


def test_a_bucket_whose_entities_change_parts_is_written_again(folder: Path) -> None:
    before = Previous(folder / "store", load(folder / "store")).entities(["part"])
    made = grown(folder, since=999 * US)  # two entities more: the cutoff moves
    after = Previous(folder / "store", made).entities(["part"])
    both = before.join(after, on=["task_id", "bucket"], suffix="_now")
    assert (both["part"] != both["part_now"]).any()
    anew = pipeline.build(sources.find(asking(folder)), folder / "anew", RUN)
    assert made.parts == anew.parts


def test_features_are_those_of_the_tables_of_today_in_all_buckets(folder: Path) -> None:
    old = events(folder / "store")
    sides(folder, "blue", "y")
    made = grown(folder, NEW.filter(pl.col("user") == "u29"), since=999 * US)
    store = TaskStore.open(folder / "store")
    towns = {i: store.user_fields(n)["town"] for n, i in enumerate(store.entity_ids())}
    assert towns == {f"u{n:02d}": f"y{n % 2}" for n in range(30)}
    assert made.counts.kept == len(OLD) + 4
    assert events(folder / "store").join(old, on="entity", how="semi").height == made.counts.kept


def test_bad_rows_and_cut_histories_are_counted_on(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    sides(tmp_path, "blue", "x")
    more = {"max_events": 5}
    bad = OLD.with_columns(stars=pl.when(pl.col("at") == 3).then(float("nan")).otherwise("stars"))
    bad.write_parquet(tmp_path / "log" / "old.parquet")
    asked = asking(tmp_path, **more)
    first = pipeline.build(sources.find(asked), tmp_path / "store", RUN)
    assert first.counts.quarantined == {"label is not a finite number": 1}
    NEW.write_parquet(tmp_path / "log" / "new.parquet")
    made = append(sources.find(asked), tmp_path / "store", RUN, since=999 * US)
    # Users 25 to 29 have four events and get four: three of each are too many.
    assert made.counts.quarantined == {
        "history is longer than data.max_events": 15,
        "label is not a finite number": 1,  # the old row comes again, but is not asked for
    }
    counts = made.counts
    assert counts.rows_in == counts.kept + counts.filtered + counts.collapsed + 16


def test_nothing_new_makes_a_version_of_shared_buckets(folder: Path) -> None:
    made = grown(folder, OLD.head(0))
    assert made.version == 2
    assert (made.tasks, made.events) == (30, len(OLD))
    assert events(folder / "store").equals(events(folder / "store", 1))


def test_an_append_that_was_killed_leaves_the_old_version_and_goes_on(folder: Path) -> None:
    first, done = load(folder / "store"), 0

    def killed(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Any]:
        nonlocal done
        for unit in units:
            done += 1
            if done > 4:
                raise KeyboardInterrupt
            yield function(unit)

    NEW.write_parquet(folder / "log" / "new.parquet")
    source = sources.find(asking(folder))
    with pytest.raises(KeyboardInterrupt):
        append(source, folder / "store", Run(here, killed, lambda _: None))
    assert load(folder / "store") == first
    made = append(source, folder / "store", RUN)
    assert (made.version, made.tasks) == (2, 32)


def test_who_was_overtaken_adds_nothing(folder: Path) -> None:
    stale = Previous(folder / "store", load(folder / "store"))
    made = grown(folder)  # by another process, after this one has looked
    with pytest.raises(DataError, match="another one has published version 2 meanwhile"):
        pipeline.build(sources.find(asking(folder)), folder / "store", RUN, previous=stale)
    assert load(folder / "store") == made


def test_what_cannot_be_added_is_refused(folder: Path) -> None:
    store = folder / "store"
    first = load(store)

    def refused(message: str, since: int | None = None, **more: object) -> None:
        with pytest.raises(DataError, match=message):
            append(sources.find(asking(folder, **more)), store, RUN, since=since)
        assert load(store) == first

    refused("with the settings of the store, data has others", label_min=3.0)
    with pytest.raises(DataError, match=r"must hold manifest.json, none can be read"):
        append(sources.find(asking(folder)), folder / "none", RUN)
    numbers = OLD.with_columns(pl.col("user").str.slice(1).cast(pl.Int64))
    numbers.write_parquet(folder / "log" / "old.parquet")
    town = pl.read_csv(folder / "log" / "users.csv")
    town.with_columns(id=pl.Series(range(40))).write_csv(folder / "log" / "users.csv")
    refused("of the types that the store has, text and integer, got integer and integer")


def test_a_day_of_digits_is_text_where_ids_are(tmp_path: Path) -> None:
    log = OLD.select("user", "item", time=pl.col("at"))
    (tmp_path / "log").mkdir()
    log.write_csv(tmp_path / "log" / "a.csv")
    asked = Data(path=str(tmp_path / "log"), columns=Columns(time="time"))
    pipeline.build(sources.find(asked), tmp_path / "store", RUN)
    (tmp_path / "log" / "a.csv").unlink()
    log.head(4).with_columns(user=pl.lit("007")).write_csv(tmp_path / "log" / "b.csv")
    made = append(sources.find(asked), tmp_path / "store", RUN)
    assert (made.tasks, made.ids) == (31, ("text", "integer"))
    assert TaskStore.open(tmp_path / "store").entity_ids()[-1] == "007"
    (tmp_path / "log" / "b.csv").write_text("user,item,time\n")
    with pytest.raises(DataError, match="a log must hold rows, got none"):
        append(sources.find(asked), tmp_path / "store", RUN)


def test_without_a_clock_nothing_is_newer(tmp_path: Path) -> None:
    OLD.select("user", "item").write_csv(tmp_path / "log.csv")
    source = sources.find(Data(path=str(tmp_path / "log.csv")))
    pipeline.build(source, tmp_path / "store", RUN)
    with pytest.raises(DataError, match=r"time must be named for --since, got none"):
        append(source, tmp_path / "store", RUN, since=5)


def test_a_date_is_in_the_zone_of_the_log() -> None:
    assert instant("1970-01-02", Data()) == 86_400 * US
    assert instant("1970-01-02", Data(time_zone="Europe/Berlin")) == 82_800 * US
    assert instant("1970-01-02T00:00:00+02:00", Data()) == 79_200 * US
    with pytest.raises(DataError, match=r"--since must be a date or a time.* got 'yesterday'"):
        instant("yesterday", Data())


def test_a_store_made_anew_at_the_same_place_is_not_taken_for_the_old_one(folder: Path) -> None:
    grown(folder)
    shutil.rmtree(folder / "store")
    other = OLD.with_columns(item=pl.col("item") + 1000 * (pl.col("item") % 2))
    other.write_parquet(folder / "log" / "old.parquet")
    (folder / "log" / "new.parquet").unlink()
    pipeline.build(sources.find(asking(folder)), folder / "store", RUN)
    grown(folder)
    assert set(other["item"]) <= set(events(folder / "store")["item"])


def test_shuffled_events_of_one_instant_stay_as_they_lay_before_new_ones(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    columns = Columns(time="at")
    asked = Data(path=str(tmp_path / "log"), columns=columns, ties="shuffled", buckets=1)
    pairs = [(user, item) for user in range(20) for item in range(6)]
    old = pl.DataFrame(pairs, schema=["user", "item"], orient="row").with_columns(at="user")
    old.write_parquet(tmp_path / "log" / "old.parquet")
    pipeline.build(sources.find(asked), tmp_path / "store", RUN)
    new = {"user": [7] * 4, "item": [9, 8, 7, 6], "at": [7] * 4}
    pl.DataFrame(new).write_parquet(tmp_path / "log" / "old.parquet")
    append(sources.find(asked), tmp_path / "store", RUN)
    before, after = (events(tmp_path / "store", version) for version in (1, 2))
    assert after.filter(pl.col("item") < 6).equals(before)
    assert before["item"].to_list() != old["item"].to_list()
    seven = after.filter(pl.col("entity") == 7)["item"].to_list()
    assert set(seven[:6]) == set(range(6))


def test_items_keep_their_domains_and_sessions_their_events(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    sides(tmp_path, "blue", "x")
    shop = pl.when(pl.col("item") < 8).then(pl.lit("book")).otherwise(pl.lit("film")).alias("shop")
    columns = Columns(label="stars", time="at", domain="shop")
    asked = asking(tmp_path, columns=columns, session_gap=30)
    OLD.with_columns(shop).write_parquet(tmp_path / "log" / "old.parquet")
    pipeline.build(sources.find(asked), tmp_path / "store", RUN)
    before, old = TaskStore.open(tmp_path / "store"), events(tmp_path / "store")
    assert set(before.entity_ids()) == {f"u{n:02d}@{n * US}" for n in range(30)}
    late = log(range(2), 70).with_columns(
        item=pl.lit(16, pl.Int64)
    )  # 10 s after the last of a session
    new = pl.concat([NEW, late]).with_columns(shop)
    new.write_parquet(tmp_path / "log" / "new.parquet")
    made = append(sources.find(asked), tmp_path / "store", RUN)
    after = TaskStore.open(tmp_path / "store")
    assert after.entity_ids()[:30] == before.entity_ids()
    assert after.entity_ids()[30:] == [f"u{n:02d}@{(1000 + n) * US}" for n in range(25, 32)]
    assert made.tasks == 37
    assert made.counts.collapsed == len(OLD)
    now = events(tmp_path / "store")
    key = ["entity", "item", "time", "domain"]
    assert now.join(old, on=key, how="semi").height == len(OLD)
    assert (now["entity"] == f"u01@{US}").sum() == 8
    items = {i: "book" if int(i) < 8 else "film" for i in after.items.ids if int(i) < 17}
    inside = items_by_value(after, "domain", key="x")
    for name, mask in inside.items():
        own = {after.items.ids[i] for i in mask.nonzero()[:, 0]}
        assert own == {i for i, domain in items.items() if domain == name}
