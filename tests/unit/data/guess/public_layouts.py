# ruff: noqa: E501  (a line of an original is a line here)
"""Public data sets, rebuilt small: names, separators, encodings and quirks of the originals.

Each function writes the files of one into a folder and returns what a store of it must hold.
"""

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import NamedTuple

START = 1_577_836_800  # 2020-01-01
EACH = 12


class Right(NamedTuple):
    """What is right: the log to name, the feedback, users, items, rows kept, the first time."""

    log: str
    feedback: str
    users: int
    items: int
    rows: int
    first: int | None  # seconds since 1970


class Event(NamedTuple):
    user: int
    item: int
    time: int
    rating: int


def events(*, users: int = 40, items: int = 50, start: int = START) -> list[Event]:
    """Return events sorted by user; each user meets an item once."""
    random = Random(7)
    found = []
    for user in range(1, users + 1):
        for number, item in enumerate(random.sample(range(1, items + 1), EACH)):
            time = start + user * 90_000 + number * 3_601
            found.append(Event(user, item, time, random.choice([1, 2, 3, 3, 4, 4, 4, 5, 5])))
    return found


def right(log: str, feedback: str, kept: list[Event], *, timed: bool = True) -> Right:
    users, items = {e.user for e in kept}, {e.item for e in kept}
    first = min(e.time for e in kept) if timed else None
    return Right(log, feedback, len(users), len(items), len(kept), first)


def lines(path: Path, rows: list[str], encoding: str = "utf-8") -> None:
    path.write_bytes("".join(f"{row}\n" for row in rows).encode(encoding))


def zipped(path: Path, rows: Sequence[object]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def iso(seconds: int, form: str) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime(form)


def sha(value: object, length: int = 40) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()[:length]


def item_ids(kept: list[Event]) -> list[int]:
    return sorted({e.item for e in kept})


def movielens_1m(folder: Path) -> Right:
    kept = events(start=978_300_000)
    lines(folder / "ratings.dat", [f"{e.user}::{e.item}::{e.rating}::{e.time}" for e in kept])
    films = [
        f"{i}::Café Number {i} (19{50 + i % 50})::Drama|{['War', 'Comedy'][i % 2]}"
        for i in range(1, 51)
    ]
    lines(folder / "movies.dat", films, "latin-1")
    people = [
        f"{u}::{'MF'[u % 2]}::{[1, 18, 25, 35][u % 4]}::{u % 21}::{10_000 + 37 * u:05}"
        for u in range(1, 41)
    ]
    lines(folder / "users.dat", people)
    return right(".", "explicit", kept)


def movielens_1m_file(folder: Path) -> Right:
    return movielens_1m(folder)._replace(log="ratings.dat")


def movielens_25m(folder: Path) -> Right:
    kept = events(start=1_147_880_044)
    head = "userId,movieId,rating,timestamp"
    lines(
        folder / "ratings.csv",
        [head, *(f"{e.user},{e.item},{e.rating - 0.5},{e.time}" for e in kept)],
    )
    films = [f'{i},"Film, The {i} (19{50 + i % 50})",Action|Drama' for i in range(1, 51)]
    lines(folder / "movies.csv", ["movieId,title,genres", *films])
    lines(
        folder / "tags.csv",
        ["userId,movieId,tag,timestamp", *(f"{e.user},{e.item},slow,{e.time}" for e in kept[::9])],
    )
    lines(
        folder / "links.csv",
        ["movieId,imdbId,tmdbId", *(f"{i},{i + 114_000:07},{i + 800}" for i in range(1, 51))],
    )
    scores = [f"{i},{tag},{0.01 * (i + tag):.4f}" for i in range(1, 51) for tag in range(1, 20)]
    lines(folder / "genome-scores.csv", ["movieId,tagId,relevance", *scores])
    lines(folder / "genome-tags.csv", ["tagId,tag", *(f"{tag},tag {tag}" for tag in range(1, 20))])
    return right(".", "explicit", kept)


def amazon_2018(folder: Path) -> Right:
    kept = events(start=1_400_000_000)
    # Times are the first second of a day.
    kept = [e._replace(time=e.time // 86_400 * 86_400) for e in kept]
    reviews = [
        {
            "overall": float(e.rating), "verified": e.user % 3 > 0,
            "reviewTime": iso(e.time, "%m ") + f"{int(iso(e.time, '%d'))}, " + iso(e.time, "%Y"),
            "reviewerID": f"A{sha(e.user, 12).upper()}", "asin": f"B{e.item:09}",
            **({"style": {"Size:": " Large"}} if e.user % 4 == 0 else {}),
            "reviewerName": f"Reviewer {e.user}", "reviewText": f"It is, in short, number {e.item}.\nFine, {e.user}!",
            "summary": f"Good {e.time % 17}", "unixReviewTime": e.time,
            **({"vote": "1,002"} if e.user % 7 == 0 else {}),
        }
        for e in kept
    ]  # fmt: skip
    zipped(folder / "All_Beauty.json.gz", reviews)
    meta = [
        {
            "category": [], "tech1": "", "description": [f"Words about {i}"], "fit": "",
            "title": f"Soap No. {i}", "also_buy": [], "image": [], "tech2": "",
            "brand": ["Dove", "Nivea", "Weleda"][i % 3], "feature": [], "rank": f"{i},938 in Beauty",
            "also_view": [f"B{(i + 1) % 50:09}"], "details": {"ASIN: ": f"B{i:09}"},
            "main_cat": "All Beauty", "similar_item": "", "date": "", "price": f"${i}.99", "asin": f"B{i:09}",
        }
        for i in range(1, 51)
    ]  # fmt: skip
    zipped(folder / "meta_All_Beauty.json.gz", meta)
    return right("All_Beauty.json.gz", "explicit", kept)


def amazon_2023(folder: Path) -> Right:
    kept = events()
    reviews = [
        {
            "rating": float(e.rating), "title": f"Lovely {e.time % 13}", "text": f"I liked it <br /> {e.item}",
            "images": [], "asin": f"C{e.item:08}{e.user % 3}", "parent_asin": f"B{e.item:09}",
            "user_id": f"A{sha(e.user, 27).upper()}", "timestamp": 1000 * e.time + 687,
            "helpful_vote": e.user % 4, "verified_purchase": e.user % 3 > 0,
        }
        for e in kept
    ]  # fmt: skip
    lines(folder / "All_Beauty.jsonl", [json.dumps(row) for row in reviews])
    meta = [
        {
            "main_category": "All Beauty", "title": f"Soap {i}", "average_rating": 4.0 + i / 60,
            "rating_number": 10 + i, "features": [], "description": [], "price": None if i % 3 else 9.99,
            "images": [{"thumb": "https://x", "variant": "MAIN"}], "videos": [],
            "store": ["Howard", "Yes To"][i % 2], "categories": [], "details": {"Package": f"{i} inches"},
            "parent_asin": f"B{i:09}", "bought_together": None,
        }
        for i in range(1, 51)
    ]  # fmt: skip
    lines(folder / "meta_All_Beauty.jsonl", [json.dumps(row) for row in meta])
    return right("All_Beauty.jsonl", "explicit", kept)


def book_crossing(folder: Path) -> Right:
    kept = [
        e._replace(rating=0 if (e.user + e.item) % 5 < 3 else 2 * e.rating - e.user % 2)
        for e in events()
    ]
    isbn = {i: f"0{i:08}{'X' if i % 3 == 0 else i % 10}" for i in range(1, 51)}
    rated = [f'"{276_700 + e.user}";"{isbn[e.item]}";"{e.rating}"' for e in kept]
    lines(folder / "BX-Book-Ratings.csv", ['"User-ID";"ISBN";"Book-Rating"', *rated], "latin-1")
    names = (
        '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher";"Image-URL-S";'
        '"Image-URL-M";"Image-URL-L"'
    )
    books = [
        f'"{isbn[i]}";"Wörter &amp; Sätze; Band {i}";"Author {i % 7}";"{1980 + i % 20}";'
        f'"Verlag {i % 5}";"http://a/{i}S.jpg";"http://a/{i}M.jpg";"http://a/{i}L.jpg"'
        for i in range(1, 51)
    ]
    books[3] = books[3].replace("Band", '\\"Band\\"')
    lines(folder / "BX-Books.csv", [names, *books], "latin-1")
    people = [
        f'"{276_700 + u}";"köln, nordrhein-westfalen, germany {u}";'
        + ("NULL" if u % 3 == 0 else f'"{18 + u}"')
        for u in range(1, 41)
    ]
    lines(folder / "BX-Users.csv", ['"User-ID";"Location";"Age"', *people], "latin-1")
    return right(".", "explicit", [e for e in kept if e.rating], timed=False)


def lastfm_hetrec(folder: Path) -> Right:
    kept = events()
    played = [f"{e.user + 1}\t{e.item + 50}\t{37 * e.rating * e.item + e.user}" for e in kept]
    lines(folder / "user_artists.dat", ["userID\tartistID\tweight", *played])
    bands = [
        f'{i + 50}\tThe "{i}" Café, live\thttp://www.last.fm/music/{i}\thttp://userserve/{i}.jpg'
        for i in range(1, 51)
    ]
    lines(folder / "artists.dat", ["id\tname\turl\tpictureURL", *bands])
    tagged = [f"{e.user + 1}\t{e.item + 50}\t{e.rating}\t{e.time * 1000}" for e in kept[::2]]
    lines(
        folder / "user_taggedartists-timestamps.dat",
        ["userID\tartistID\ttagID\ttimestamp", *tagged],
    )
    lines(folder / "tags.dat", ["tagID\ttagValue", *(f"{tag}\tword {tag}" for tag in range(1, 20))])
    lines(
        folder / "user_friends.dat",
        ["userID\tfriendID", *(f"{u}\t{u % 40 + 2}" for u in range(2, 40))],
    )
    return right(".", "implicit", kept, timed=False)


def lastfm_360k(folder: Path) -> Right:
    kept = events()
    played = [
        f"{sha(e.user)}\t{'' if e.item % 9 == 0 else sha(e.item, 36)}\tband {e.item}, the\t{17 * e.rating * e.item + e.user}"
        for e in kept
    ]
    lines(folder / "usersha1-artmbid-artname-plays.tsv", played)
    people = [
        f"{sha(u)}\t{'mf'[u % 2]}\t{20 + u % 30}\tGermany\tFeb {u % 28 + 1}, 2007"
        for u in range(1, 41)
    ]
    lines(folder / "usersha1-profile.tsv", people)
    return right("usersha1-artmbid-artname-plays.tsv", "implicit", kept, timed=False)


def mind(folder: Path) -> Right:
    kept = events(start=1_573_000_000)
    rows, shown, seen = [], [], []
    for number, user in enumerate(range(1, 41), start=1):
        own = [e for e in kept if e.user == user]
        time = own[0].time
        moment = datetime.fromtimestamp(time, tz=UTC)
        text = f"{moment:%m/%d/%Y} {moment.hour % 12 or 12}:{moment:%M:%S %p}"
        history = "" if user % 5 == 0 else " ".join(f"N{e.item}" for e in own[:3])
        seen = [e._replace(time=time, rating=int(e.rating > 3)) for e in own[3:]]
        shown += seen
        rows.append(
            f"{number}\tU{user}\t{text}\t{history}\t"
            + " ".join(f"N{e.item}-{e.rating}" for e in seen)
        )
    lines(folder / "behaviors.tsv", rows)
    news = [
        f'N{i}\t{["sports", "news"][i % 2]}\t{["soccer", "world", "tennis"][i % 3]}\tThe "best" of {i}\tAn abstract\t'
        f"https://assets.msn.com/{i}.html\t[]\t[]"
        for i in range(1, 51)
    ]
    lines(folder / "news.tsv", news)
    lines(folder / "entity_embedding.vec", ["Q41\t0.1\t0.2"])
    return right(".", "binary", shown)


def retailrocket(folder: Path) -> Right:
    kept = events(start=1_433_000_000)
    rows = []
    for e in kept:
        kind = "transaction" if e.rating == 5 else "addtocart" if e.rating == 1 else "view"
        bought = str(e.user * 100 + e.item) if kind == "transaction" else ""
        rows.append(f"{e.time * 1000 + 117},{257_000 + e.user},{kind},{355_900 + e.item},{bought}")
    lines(folder / "events.csv", ["timestamp,visitorid,event,itemid,transactionid", *rows])
    values = [
        f"{1_435_460_400_000 + week},{355_900 + i},{p},1338 n{i}.000"
        for i in range(1, 51)
        for week in (0, 9)
        for p in ("categoryid", "888")
    ]
    lines(folder / "item_properties_part1.csv", ["timestamp,itemid,property,value", *values])
    lines(folder / "item_properties_part2.csv", ["timestamp,itemid,property,value", *values[::-1]])
    lines(
        folder / "category_tree.csv",
        ["categoryid,parentid", *(f"{c},{c // 2}" for c in range(2, 40))],
    )
    return right(".", "implicit", kept)


def taobao(folder: Path) -> Right:
    kept = events(start=1_511_544_070)
    kinds = {1: "buy", 2: "cart", 3: "fav"}
    rows = [
        f"{e.user},{2_268_000 + e.item},{2_520_370 + e.item % 9},{kinds.get(e.rating, 'pv')},{e.time}"
        for e in kept
    ]
    lines(folder / "UserBehavior.csv", rows)
    return right("UserBehavior.csv", "implicit", kept)


def yoochoose(folder: Path) -> Right:
    kept = events(start=1_396_861_851)
    stamp = "%Y-%m-%dT%H:%M:%S.277Z"
    category = ["0", "S", "3"]
    rows = [
        f"{e.user},{iso(e.time, stamp)},{214_536_500 + e.item},{category[e.user % 3]}" for e in kept
    ]
    lines(folder / "yoochoose-clicks.dat", rows)
    bought = [
        f"{e.user},{iso(e.time, stamp)},{214_536_500 + e.item},{12_462 + e.item},1"
        for e in kept[::6]
    ]
    lines(folder / "yoochoose-buys.dat", bought)
    return right("yoochoose-clicks.dat", "implicit", kept)


def hm(folder: Path) -> Right:
    kept = sorted(events(start=1_537_400_000), key=lambda e: e.time)
    kept = [e._replace(time=e.time // 86_400 * 86_400) for e in kept]
    rows = [
        f"{iso(e.time, '%Y-%m-%d')},{sha(e.user, 64)},{663_713_000 + e.item:010},{0.0508 + e.item / 1e4 + e.user / 1e6:.6f},{1 + (e.user + e.item) % 2}"
        for e in kept
    ]
    lines(
        folder / "transactions_train.csv",
        ["t_dat,customer_id,article_id,price,sales_channel_id", *rows],
    )
    goods = [
        f"{663_713_000 + i:010},{663_700 + i // 2:07},Strap top {i},{253 + i % 4},{['Vest', 'Bra', 'Sock', 'Hat'][i % 4]},"
        f'{i % 5},"Jersey top, with {i} straps."'
        for i in range(1, 51)
    ]
    lines(
        folder / "articles.csv",
        [
            "article_id,product_code,prod_name,product_type_no,product_type_name,perceived_colour_value_id,detail_desc",
            *goods,
        ],
    )
    people = [
        f"{sha(u, 64)},{'1.0' if u % 2 else ''},,{['ACTIVE', 'PRE-CREATE'][u % 2]},NONE,{20 + u}.0,{sha((u, 1), 64)}"
        for u in range(1, 41)
    ]
    lines(
        folder / "customers.csv",
        [
            "customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code",
            *people,
        ],
    )
    lines(
        folder / "sample_submission.csv",
        ["customer_id,prediction", *(f"{sha(u, 64)},0706016001 0706016002" for u in range(1, 41))],
    )
    return right(".", "implicit", kept)


def steam(folder: Path) -> Right:
    kept = events()
    rows = []
    for e in kept:
        game = f'"Game {e.item}, The ""Gold"" Edition"' if e.item % 4 == 0 else f'"Game {e.item}"'
        rows.append(f"{151_603_700 + e.user},{game},purchase,1.0,0")
        if e.rating > 2:
            rows.append(f"{151_603_700 + e.user},{game},play,{e.rating * 7.3:.1f},0")
    lines(folder / "steam-200k.csv", rows)
    found = right("steam-200k.csv", "implicit", kept, timed=False)
    return found._replace(rows=len(rows))


def steam_reviews(folder: Path) -> Right:
    """Its lines are literals of Python."""
    kept = [e._replace(time=e.time // 86_400 * 86_400) for e in events(start=1_500_000_000)]
    with gzip.open(folder / "steam_reviews.json.gz", "wt", encoding="utf-8") as file:
        for e in kept:
            row = (
                f"u'username': u'Gamer {e.user}', u'hours': {e.rating * e.user * 1.7:.1f}, u'products': {e.user + 3}, "
                f"u'product_id': u'{725_200 + e.item}', u'page_order': {e.time % 9}, u'date': u'{iso(e.time, '%Y-%m-%d')}', "
                f"u'text': u\"It's number {e.item} of {e.user}\", u'early_access': {e.item % 2 == 0}, u'page': {e.user + e.item}"
            )
            file.write(f"{{{row}}}\n")
    return right("steam_reviews.json.gz", "implicit", kept)


def goodreads(folder: Path) -> Right:
    kept = [e._replace(rating=0 if (e.user + e.item) % 3 == 0 else e.rating) for e in events()]
    rows = [
        f"{e.user - 1},{940 + e.item},{int(e.rating > 0)},{e.rating},{int(e.rating > 4)}"
        for e in kept
    ]
    lines(
        folder / "goodreads_interactions.csv", ["user_id,book_id,is_read,rating,is_reviewed", *rows]
    )
    lines(
        folder / "book_id_map.csv",
        ["book_id_csv,book_id", *(f"{940 + i},{34_684_600 + i}" for i in range(1, 51))],
    )
    lines(
        folder / "user_id_map.csv",
        ["user_id_csv,user_id", *(f"{u - 1},{sha(u, 32)}" for u in range(1, 41))],
    )
    return right(
        "goodreads_interactions.csv", "explicit", [e for e in kept if e.rating], timed=False
    )


def goodreads_json(folder: Path) -> Right:
    kept = events(start=1_500_000_000)
    stamp = "%a %b %d %H:%M:%S +0000 %Y"
    rows = [
        {
            "user_id": sha(e.user, 32), "book_id": str(16_981_000 + e.item), "review_id": sha((e.user, e.item), 32),
            "is_read": True, "rating": e.rating, "review_text_incomplete": f"mind blowing {e.item} {e.user}",
            "date_added": iso(e.time, stamp).replace("+0000", "-0000"),
            "date_updated": iso(e.time + 86_400, stamp),
            "read_at": "" if e.item % 2 else iso(e.time + 3_600, stamp), "started_at": "",
        }
        for e in kept
    ]  # fmt: skip
    zipped(folder / "goodreads_interactions_poetry.json.gz", rows)
    return right("goodreads_interactions_poetry.json.gz", "explicit", kept)


def netflix(folder: Path) -> Right:
    kept = [e._replace(time=e.time // 86_400 * 86_400) for e in events(start=1_100_000_000)]
    for part, films in enumerate((range(1, 26), range(26, 51)), start=1):
        rows = []
        for i in films:
            rows.append(f"{i}:")
            rows += [
                f"{1_488_800 + e.user},{e.rating},{iso(e.time, '%Y-%m-%d')}"
                for e in kept
                if e.item == i
            ]
        lines(folder / f"combined_data_{part}.txt", rows)
    titles = [f"{i},{'NULL' if i == 7 else 1990 + i % 15},Amélie, Part {i}" for i in range(1, 51)]
    lines(folder / "movie_titles.csv", titles, "latin-1")
    return right(".", "explicit", kept)


def kuairec(folder: Path) -> Right:
    kept = events(start=1_593_898_000)
    rows = []
    for e in kept:
        watched = e.rating * 1_700 + e.user
        gap = (e.user + e.item) % 25 == 0  # some rows of the small matrix have no time
        moment = datetime.fromtimestamp(e.time + 8 * 3600, tz=UTC)
        time = ",," if gap else f"{moment:%Y-%m-%d %H:%M:%S}.378,{moment:%Y%m%d}.0,{e.time}.378"
        rows.append(
            f"{e.user},{140 + e.item},{watched},{6_000 + e.item},{time},{watched / (6_000 + e.item):.6f}"
        )
    head = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
    lines(folder / "small_matrix.csv", [head, *rows])
    people = [
        f'{u},{["high_active", "full_active"][u % 2]},{u % 2},{u * 3},"{["0", "(0,10]"][u % 2]}",{u % 7}'
        for u in range(1, 41)
    ]
    lines(
        folder / "user_features.csv",
        [
            "user_id,user_active_degree,is_lowactive_period,follow_user_num,follow_user_num_range,onehot_feat0",
            *people,
        ],
    )
    daily = [f"{140 + i},2020070{day},{i * 7},{day * i}" for i in range(1, 51) for day in (5, 6)]
    lines(folder / "item_daily_features.csv", ["video_id,date,author_id,show_cnt", *daily])
    lines(
        folder / "item_categories.csv",
        ["video_id,feat", *(f'{140 + i},"[{i % 9}, {i % 4}]"' for i in range(1, 51))],
    )
    lines(
        folder / "social_network.csv",
        ["user_id,friend_list", *(f'{u},"[{u + 1}]"' for u in range(1, 20))],
    )
    timed = [e for e in kept if (e.user + e.item) % 25]
    return right("small_matrix.csv", "implicit", timed)


def gowalla(folder: Path) -> Right:
    kept = events(start=1_287_000_000)
    rows = [
        f"{e.user - 1}\t{iso(e.time, '%Y-%m-%dT%H:%M:%SZ')}\t{30.2359 + e.item / 97:.10f}\t{-97.795 + e.item / 89:.10f}\t{22_800 + e.item}"
        for e in kept
    ]
    lines(folder / "loc-gowalla_totalCheckins.txt", rows)
    lines(folder / "loc-gowalla_edges.txt", [f"{u}\t{u + 1}" for u in range(39)])
    return right("loc-gowalla_totalCheckins.txt", "implicit", kept)


LAYOUTS: dict[str, Callable[[Path], Right]] = {
    one.__name__: one
    for one in (
        movielens_1m, movielens_1m_file, movielens_25m, amazon_2018, amazon_2023, book_crossing,
        lastfm_hetrec, lastfm_360k, mind, retailrocket, taobao, yoochoose, hm, steam, steam_reviews, goodreads,
        goodreads_json, netflix, kuairec, gowalla,
    )
}  # fmt: skip
