"""MovieLens layouts as small files, and the strict protocol's numbers where the real data lies."""

import os
from pathlib import Path

import polars as pl
import pytest

from metarec_ray.data.datasets.by_name import locate
from metarec_ray.data.log.reading import Log, read_log
from metarec_ray.data.settings import Columns, Data
from metarec_ray.data.store.writing import build_store
from metarec_ray.errors import DataError

RATINGS = [(1, 10, 5, 300), (1, 20, 3, 200), (2, 10, 4, 100)]


def ml_1m(folder: Path) -> None:
    lines = [f"{u}::{i}::{r}::{t}" for u, i, r, t in RATINGS]
    (folder / "ratings.dat").write_text("\n".join(lines) + "\n")
    movies = "10::Café Noir (1961)::Drama|Film-Noir\n20::Heat (1995)::Action\n"
    (folder / "movies.dat").write_text(movies, encoding="iso-8859-1")
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")


def ml_100k(folder: Path) -> None:
    (folder / "u.data").write_text("".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in RATINGS))
    flags = {10: {8, 10}, 20: {1}}  # Drama and Film-Noir; Action
    names = {10: "Café Noir (1961)", 20: "Heat (1995)"}
    rows = [
        "|".join(
            [str(i), names[i], "", "", "", *("1" if f in flags[i] else "0" for f in range(19))]
        )
        for i in (10, 20)
    ]
    (folder / "u.item").write_text("\n".join(rows), encoding="iso-8859-1")
    (folder / "u.user").write_text("1|24|F|writer|0\n2|53|M|other|1\n")


def ml_latest(folder: Path) -> None:
    rows = "".join(f"{u},{i},{r}.0,{t}\n" for u, i, r, t in RATINGS)
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + rows)
    (folder / "movies.csv").write_text(
        'movieId,title,genres\n10,"Café Noir (1961)",Drama|Film-Noir\n20,Heat (1995),Action\n'
    )


def ml_1m_parquet(folder: Path) -> None:
    ml_1m(folder)
    (folder / "ratings.dat").unlink()
    columns = {"user_id": pl.Int16, "movie_id": pl.Int16, "rating": pl.Int8, "timestamp": pl.Int32}
    frame = pl.DataFrame(RATINGS, schema=columns, orient="row").with_row_index("row")
    frame.write_parquet(folder / "ratings.parquet")


LAYOUTS = {"1m": ml_1m, "100k": ml_100k, "latest": ml_latest, "parquet": ml_1m_parquet}


def read(folder: Path, **fields: object) -> Log:
    return read_log(Data.model_validate({"path": str(folder), **fields}))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_ratings_and_films(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path)
    log = read(tmp_path, feedback="explicit")
    assert log.events.rows() == [
        (1, 10, 5.0, 300_000_000, 0),
        (1, 20, 3.0, 200_000_000, 1),
        (2, 10, 4.0, 100_000_000, 2),
    ]
    assert log.items is not None
    assert log.items.select("id", "title", "genres", "year").rows() == [
        (10, "Café Noir (1961)", ["Drama", "Film-Noir"], "1961-1970"),
        (20, "Heat (1995)", ["Action"], "1994-1996"),
    ]


def test_ratings_without_users_beside_them_are_read(tmp_path: Path) -> None:
    ml_1m(tmp_path)
    (tmp_path / "users.dat").unlink()
    log = read(tmp_path, feedback="explicit")
    assert (len(log.events), log.users) == (3, None)


@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        ("1m", [(1, "F", "1", "10"), (2, "M", "56", "16")]),
        ("100k", [(1, "F", "20s", "writer"), (2, "M", "50s", "other")]),
    ],
)
def test_users_have_gender_age_and_occupation(
    tmp_path: Path, layout: str, rows: list[tuple[object, ...]]
) -> None:
    LAYOUTS[layout](tmp_path)
    users = read(tmp_path).users
    assert users is not None
    assert users.select("id", "gender", "age", "occupation").rows() == rows


def test_a_positive_is_a_rating_of_four_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    ml_latest(tmp_path)
    log = read(tmp_path)
    assert (len(log.events), log.filtered, log.settings.label_min) == (2, 1, 4.0)
    assert read(tmp_path, label_min=5.0).filtered == 2


def test_explicit_ratings_of_which_some_lack_a_timestamp_have_no_clock(tmp_path: Path) -> None:
    ml_1m_parquet(tmp_path)
    frame = pl.read_parquet(tmp_path / "ratings.parquet")
    frame.with_columns(timestamp=pl.Series([300, None, 100], dtype=pl.Int32)).write_parquet(
        tmp_path / "ratings.parquet"
    )
    log = read(tmp_path, feedback="explicit")
    assert log.events.columns == ["entity", "item", "label", "sequence"]
    assert len(log.events) == 3
    roles = Columns(entity="user_id", item="movie_id", label="rating", time="timestamp")
    timed = read(tmp_path, feedback="explicit", columns=roles)
    assert timed.rejected["reason"].to_list() == ["time is missing"]
    # with implicit feedback the row without a time is no positive, so nothing is bad
    assert read(tmp_path).rejected.is_empty()


def test_a_line_without_its_fields_is_refused(tmp_path: Path) -> None:
    ml_1m(tmp_path)
    with (tmp_path / "ratings.dat").open("a") as stream:
        stream.write("2::20\n")
    with pytest.raises(DataError, match=r"must have 4 fields, got 2 in line 4 of .*ratings.dat"):
        read(tmp_path)
    (tmp_path / "ratings.dat").write_text("1::x::5::3\n")
    with pytest.raises(DataError, match=r"fields of .*ratings.dat must be numbers"):
        read(tmp_path)


def test_a_known_name_is_looked_up_in_the_data_folder(tmp_path: Path) -> None:
    assert locate("ml-100k", tmp_path) is None
    assert locate("ml-100k", None) is None
    (tmp_path / "ml-100k").mkdir()
    with pytest.raises(DataError, match=r"a folder of ml-100k must hold one of ratings.dat \+"):
        locate("ml-100k", tmp_path)
    ml_100k(tmp_path / "ml-100k")
    assert len(read_log(Data(path="ml-100k"), data_dir=tmp_path).events) == 2


DATA = Path(os.environ.get("METAREC_DATA", "nowhere"))


@pytest.mark.skipif(not (DATA / "ml-1m").is_dir(), reason="METAREC_DATA holds no ml-1m")
def test_movielens_1m_gives_the_numbers_of_the_strict_protocol(tmp_path: Path) -> None:
    settings = Data(path="ml-1m")
    made = build_store(read_log(settings, data_dir=DATA), settings, tmp_path / "store")
    assert made.cutoff == 974_846_840 * 1_000_000
    # 575,281 ratings >= 4, of which 169 lack their time
    assert made.counts.quarantined == {"time is missing": 169}
    assert made.counts.kept == 575_281 - 169
    buckets = [name for name in sorted(made.files) if name.startswith("bucket-")]
    rows = pl.concat([pl.read_parquet(made.file(tmp_path / "store", name)) for name in buckets])
    flat = rows.select("task_id", "part", "item", "time").explode("item", "time")
    train = flat.filter((pl.col("part") != "test") & (pl.col("time") < made.cutoff))
    assert len(train) == 404_384
    assert train["task_id"].n_unique() == 4_830
    assert train["item"].n_unique() == 3_444
    test = flat.filter(pl.col("part") == "test")
    assert test["task_id"].n_unique() == 1_208
    known = test.join(train.select("item").unique(), on="item", how="semi")
    assert (known.group_by("task_id").len()["len"] >= 20).sum() == 1_042
    cold = DATA / "melu_protocol" / "strict_cold_users.parquet"
    if cold.is_file():
        _same_order(known, tmp_path / "store" / "v000001", pl.read_parquet(cold))


def _same_order(known: pl.DataFrame, store: Path, cold: pl.DataFrame) -> None:
    named = known.join(
        pl.read_parquet(store / "entities.parquet").select("task_id", user="id"),
        on="task_id",
        maintain_order="left",
    ).join(
        pl.read_parquet(store / "items.parquet").select("item", movie="id"),
        on="item",
        maintain_order="left",
    )
    named = named.select(pl.col("user", "movie").cast(pl.Int64))
    named = named.filter(pl.col("user").is_in(cold["user_id"].unique().implode()))
    found = named.sort("user", maintain_order=True)
    assert found.rows() == cold.sort("user_id", "pos").select("user_id", "movie_id").rows()


EXTRAS = (
    "10::Cafe Noir::1961::R::1 Jan 1961::Drama, Mystery::Ann Bee::Ann Bee (story), Ann Bee "
    "(screenplay), Cy Dee::Eve Fox, Gil Hay::A plot.::N/A\r\n"
    "20::Heat::1995::UNRATED::2 Jan 1995::Drama::Cy Dee::Cy Dee::Eve Fox, N/A::Another.::N/A\r\n"
)
RICH = {
    "path": "movies.dat",
    "id": "id",
    "title": "title",
    "features": {
        "released": {"kind": "numeric"},
        "certificate": {"kind": "categorical"},
        "imdb_genres": {"kind": "multi_categorical"},
        "director": {"kind": "multi_categorical"},
        "writer": {"kind": "multi_categorical"},
        "actor": {"kind": "multi_categorical"},
        "title_words": {"kind": "multi_categorical"},
    },
}


def test_a_config_may_ask_for_names_that_two_films_share(tmp_path: Path) -> None:
    ml_1m(tmp_path)
    (tmp_path / "movies_extrainfos.dat").write_bytes(EXTRAS.encode())
    items = read(tmp_path, items=RICH).items
    assert items is not None
    columns = ["released", "certificate", "imdb_genres", "director", "writer", "actor"]
    assert items.select(columns).rows() == [
        (1961.0, "R", ["Drama"], None, ["Cy Dee"], ["Eve Fox"]),
        (1995.0, None, ["Drama"], None, ["Cy Dee"], ["Eve Fox"]),
    ]


def test_title_words_are_those_of_two_films_and_not_of_most(tmp_path: Path) -> None:
    ml_1m(tmp_path)
    titles = ["The Heat (1995)", "The Big Heat (1953)", *(f"The {i} (1990)" for i in range(10))]
    lines = [f"{i}::{title}::Drama" for i, title in enumerate(titles, 10)]
    (tmp_path / "movies.dat").write_text("\n".join(lines))
    features = {"title_words": {"kind": "multi_categorical"}}
    items = read(tmp_path, items={**RICH, "features": features}).items
    assert items is not None
    assert items["title_words"].to_list() == [["heat"], ["heat"], *[None] * 10]


def test_the_extra_file_is_part_of_the_fingerprint_only_where_it_is_asked_for(
    tmp_path: Path,
) -> None:
    ml_1m(tmp_path)
    extras = tmp_path / "movies_extrainfos.dat"
    plain = read(tmp_path).fingerprint
    extras.write_bytes(EXTRAS.encode())
    assert read(tmp_path).fingerprint == plain
    rich = read(tmp_path, items=RICH).fingerprint
    extras.write_bytes(EXTRAS.replace("Gil Hay", "Ida Jay").encode())
    assert len({plain, rich, read(tmp_path, items=RICH).fingerprint}) == 3


def test_names_without_the_file_that_has_them_are_refused(tmp_path: Path) -> None:
    ml_1m(tmp_path)
    with pytest.raises(DataError, match=r"movies_extrainfos.dat must lie beside movies.dat for"):
        read(tmp_path, items=RICH)


def test_a_short_line_of_the_extra_file_is_refused(tmp_path: Path) -> None:
    ml_1m(tmp_path)
    (tmp_path / "movies_extrainfos.dat").write_text(EXTRAS + "30::Oops\n")
    with pytest.raises(DataError, match=r"must have 11 fields, .* got 2 .* in line 3 of"):
        read(tmp_path, items=RICH)
