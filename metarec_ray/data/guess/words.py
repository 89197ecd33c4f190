"""What names of columns and files stand for, and how much a kind of event weighs.

Knows words; does not look at a value.
"""

import re

_SETS = {
    "entity": "user uid visitor customer cust reviewer member client account profile person player "
    "reader listener viewer shopper buyer subscriber session username nickname login",
    "item": "item iid movie film product article asin sku isbn book video track song artist game "
    "app news listing hotel poi venue location business recipe anime content goods post podcast "
    "show offer restaurant course job mid photo",
    "label": "rating ratings score stars star overall rate grade",
    "click": "click clicked like liked target converted conversion label",
    "strength": "weight plays play playcount playcnt count cnt listens hours duration watchtime "
    "watch playtime quantity qty times frequency dwell",
    "event": "event action behavior behaviour interaction activity eventtype type",
    "time": "time timestamp ts date datetime dat at day when created unixtime unix",
    "domain": "domain shop store market marketplace catalogue catalog site tenant",
    "sequence": "sequence seq row rownumber ordinal step",
    "context": "device platform os browser channel hour weekday dayofweek scene "
    "network carrier referrer language",
    "title": "title name label headline",
    "outcome": "average avg mean popularity rank votes",
}


def of(names: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(names.split())


WORDS = {role: of(names) for role, names in _SETS.items()}
ROLES = ("entity", "item", "label", "click", "strength", "event", "time", "domain", "sequence")
SIDES = {"users": "entity", "items": "item"}
_WEIGHTS = {
    "view": 1.0, "click": 1.0, "pv": 1.0, "visit": 1.0, "read": 1.0,
    "play": 1.0, "listen": 1.0, "watch": 1.0, "detail": 1.0,
    "fav": 2.0, "favorite": 2.0, "favourite": 2.0, "like": 2.0, "wishlist": 2.0, "save": 2.0,
    "bookmark": 2.0, "collect": 2.0, "share": 2.0, "follow": 2.0, "comment": 2.0, "rate": 2.0,
    "review": 2.0,
    "cart": 3.0, "addtocart": 3.0, "basket": 3.0, "addtobasket": 3.0, "checkout": 4.0,
    "purchase": 5.0, "buy": 5.0, "bought": 5.0, "order": 5.0, "transaction": 5.0, "sale": 5.0,
    "install": 5.0, "subscribe": 5.0,
}  # fmt: skip
_NO_POSITIVE = (
    "impression", "exposure", "exposed", "shown", "remove", "delete", "dislike", "unlike", "skip",
    "refund", "return", "cancel", "unfollow", "hide", "report", "search",
)  # fmt: skip
_TABLES = {
    "users": "user users customer customers member members reviewer reviewers profile profiles "
    "visitor visitors",
    "items": "item items movie movies film films product products article articles book books "
    "artist artists track tracks song songs video videos news game games meta metadata catalogue "
    "catalog listings titles anime recipes",
}
TABLES = {side: of(names) for side, names in _TABLES.items()}


def tokens(name: str) -> list[str]:
    """Return the words of a name, in lower case.

    >>> tokens("unixReviewTime"), tokens("User-ID"), tokens("t_dat")
    (['unix', 'review', 'time'], ['user', 'id'], ['t', 'dat'])
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return [word for word in re.split(r"[^0-9a-z]+", spaced.lower()) if word]


def fit(name: str, role: str) -> int:
    """Return how well a name fits a role: 3 the whole of it, 2 a word of it, 1 its end, 0 not.

    >>> fit("userId", "entity"), fit("visitorid", "entity"), fit("hour", "item")
    (3, 3, 0)
    """
    known = WORDS[role]
    parts = tokens(name)
    ids = {"id", "ids", "idx", "code", "no", "key", "sha1", "mbid", "hash"}
    kept = [word for word in parts if word not in ids]
    joined = "".join(kept)
    if joined in known or _without_id(joined) in known:
        return 3
    if any(word in known or _without_id(word) in known for word in kept):
        return 2
    return int(any(len(word) > 3 and joined.endswith(word) for word in known))


def role(name: str) -> str | None:
    """Return the role that a name fits best, None for none; ends of words do not count."""
    best = max(ROLES, key=lambda one: fit(name, one))
    return best if fit(name, best) > 1 else None


def weight(kind: str) -> float | None:
    """Return the usual weight of a kind of event; None if nobody knows it, or if it is no positive.

    >>> weight("add_to_cart"), weight("pageview"), weight("x1"), weight("remove_from_cart")
    (3.0, 1.0, None, None)
    """
    joined = "".join(tokens(kind))
    if any(word in joined for word in _NO_POSITIVE):
        return None
    if joined in _WEIGHTS:
        return _WEIGHTS[joined]
    inside = [word for word in _WEIGHTS if len(word) > 2 and word in joined]
    return _WEIGHTS[max(inside, key=len)] if inside else None


def side(file: str) -> str | None:
    """Return `users` or `items` if the name of a file says that it holds these.

    >>> side("BX-Users.csv"), side("meta_All_Beauty.json.gz"), side("events.csv")
    ('users', 'items', None)
    """
    parts = tokens(file.partition(".")[0])
    for name, known in TABLES.items():
        if any(part in known for part in parts):
            return name
    return None


def _without_id(word: str) -> str:
    return word[:-2] if word.endswith("id") and len(word) > 4 else word
