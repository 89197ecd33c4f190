"""A synthetic log from a known model, so that the best possible ranking is known too (`optimum`).

Items have a genre, one to four tags and a length; users have a segment and an age band. Factors of
item j and user u are `q_j = W content_j + noise` and `p_u = M features_u + taste`; the popularity
`b_j` is skewed:

* implicit: user u chooses items one by one without replacement, each with a probability
  proportional to `exp(b_j + p_u . q_j)`, among the items that exist when u begins;
* binary: items are shown by popularity, `label ~ Bernoulli(sigmoid(offset + b_j + p_u . q_j))`;
* explicit: items are shown by popularity, `label = mean + b_j + p_u . q_j + noise`, not rounded or
  clipped, so that the posterior of p_u is in closed form.

Users and items begin at any time: the last users are cold, the last items are new. The hour of an
event is random: a context column without information.

Ids count from 1: row r of an array of the truth is user or item r + 1. Does not know files.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from metarec_ray.data.settings import Feature, Feedback, Synthetic

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SEGMENTS = ("student", "commuter", "family", "gamer", "traveller", "cook", "collector", "retired")
AGES = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
GENRES = (
    "action", "animation", "comedy", "crime", "documentary", "drama",
    "fantasy", "horror", "musical", "romance", "thriller", "western",
)  # fmt: skip
TAGS = (
    "ballet", "boxing", "castle", "chess", "circus", "desert", "dragon", "drought", "ghost",
    "harbour", "heist", "island", "jazz", "jungle", "kitchen", "lawyer", "lighthouse", "monastery",
    "mountain", "opera", "pirate", "poker", "railway", "robot", "school", "space", "spy", "storm",
    "village", "wedding",
)  # fmt: skip
USER_FEATURES = {"segment": Feature(kind="categorical"), "age": Feature(kind="categorical")}
ITEM_FEATURES = {
    "genre": Feature(kind="categorical"),
    "tags": Feature(kind="multi_categorical"),
    "length": Feature(kind="numeric"),
}
CONTEXT = {"hour": Feature(kind="categorical")}

VERSION = 1  # of the model: raised when the same settings and seed give another log

_BEGIN = 1_600_000_000  # seconds: the clock starts in September 2020
_SPAN = 400 * 86_400
_MEAN_GAP = 6 * 3600.0
_LATE_ITEMS = 0.15


class Truth(NamedTuple):
    """The generating model: J items, U users, D factors.

    Attributes:
        popularity: b [J].
        item_factors: q [J, D].
        user_prior: M features_u [U, D].
        taste_std: standard deviation of p_u around its prior mean, of each factor.
        offset: added to every score: the mean rating, or the log-odds of a click.
        noise_std: standard deviation of a rating around its mean.

    """

    feedback: Feedback
    popularity: Floats
    item_factors: Floats
    user_prior: Floats
    taste_std: float
    offset: float
    noise_std: float


class SyntheticLog(NamedTuple):
    """`events`: user, item, label, time (seconds), hour; `users`, `items`: `id` and features."""

    events: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame
    truth: Truth


def generate(settings: Synthetic, feedback: Feedback, seed: int) -> SyntheticLog:
    """Return the log, a pure function of the arguments."""
    rng = np.random.default_rng([seed, ("implicit", "binary", "explicit").index(feedback)])
    items, content = _items(settings, rng)
    users, features = _users(settings, rng)
    truth = _truth(settings, feedback, content, features, rng)
    taste = truth.user_prior + truth.taste_std * rng.standard_normal(truth.user_prior.shape)
    start = np.sort(rng.integers(0, _SPAN, settings.users))[rng.permutation(settings.users)]
    birth = np.where(
        rng.random(settings.items) < _LATE_ITEMS, rng.integers(0, _SPAN, settings.items), 0
    )
    lengths = _lengths(settings, rng)
    shown = _shown(truth, taste, start, birth, lengths, rng)
    events = _events(truth, taste, start, shown, rng)
    return SyntheticLog(events, users, items, truth)


def _items(settings: Synthetic, rng: np.random.Generator) -> tuple[pl.DataFrame, Floats]:
    count = settings.items
    genre = rng.choice(len(GENRES), count, p=_zipf(len(GENRES), 0.5))
    order = rng.random((count, len(TAGS))).argsort(axis=1)
    number = rng.integers(1, 5, count)
    length = rng.normal(100.0, 20.0, count).round(1)
    content = np.zeros((count, len(GENRES) + len(TAGS) + 1))
    content[np.arange(count), genre] = 1.0
    for row, (tags, n) in enumerate(zip(order, number, strict=True)):
        content[row, len(GENRES) + tags[:n]] = n**-0.5
    content[:, -1] = (length - 100.0) / 20.0
    tags = [sorted(TAGS[t] for t in row[:n]) for row, n in zip(order, number, strict=True)]
    names = [
        f"{' and '.join(words[:2])} ({GENRES[g]} {i + 1})".capitalize()
        for i, (words, g) in enumerate(zip(tags, genre, strict=True))
    ]
    table = pl.DataFrame(
        {
            "id": np.arange(1, count + 1),
            "title": names,
            "genre": [GENRES[g] for g in genre],
            "tags": tags,
            "length": length,
        }
    )
    return table, content


def _users(settings: Synthetic, rng: np.random.Generator) -> tuple[pl.DataFrame, Floats]:
    count = settings.users
    segment = rng.choice(len(SEGMENTS), count, p=_zipf(len(SEGMENTS), 0.5))
    age = rng.integers(0, len(AGES), count)
    features = np.zeros((count, len(SEGMENTS) + len(AGES)))
    features[np.arange(count), segment] = 1.0
    features[np.arange(count), len(SEGMENTS) + age] = 1.0
    table = pl.DataFrame(
        {
            "id": np.arange(1, count + 1),
            "segment": [SEGMENTS[s] for s in segment],
            "age": [AGES[a] for a in age],
        }
    )
    return table, features


def _truth(
    settings: Synthetic,
    feedback: Feedback,
    content: Floats,
    features: Floats,
    rng: np.random.Generator,
) -> Truth:
    """Return the model; factors are scaled so that p . q has the standard deviation of settings."""
    count, size = len(content), settings.factors
    known = content @ rng.standard_normal((content.shape[1], size))
    known = (known - known.mean(axis=0)) / known.std(axis=0)
    share = settings.own_share
    factors = (1 - share) ** 0.5 * known + share**0.5 * rng.standard_normal((count, size))
    prior = features @ rng.standard_normal((features.shape[1], size))
    prior = (prior - prior.mean(axis=0)) / prior.std(axis=0)
    signal = settings.signal_std if feedback == "implicit" else settings.signal_std / 2
    rank = rng.permutation(count) + 1.0
    popularity = -settings.popularity_exponent * np.log(rank)
    if feedback != "implicit":
        popularity = 0.3 * (popularity - popularity.mean())
    scale = signal / size**0.5
    return Truth(
        feedback=feedback,
        popularity=popularity,
        item_factors=factors,
        user_prior=prior * scale * settings.prior_share**0.5,
        taste_std=scale * (1 - settings.prior_share) ** 0.5,
        offset={"implicit": 0.0, "binary": -0.5, "explicit": 3.5}[feedback],
        noise_std=0.6,
    )


def _lengths(settings: Synthetic, rng: np.random.Generator) -> Ints:
    drawn = rng.lognormal(np.log(settings.mean_events) - 0.045, 0.3, settings.users)
    return np.clip(drawn.round().astype(np.int64), 3, max(3, settings.items // 3))


def _shown(
    truth: Truth, taste: Floats, start: Ints, birth: Ints, lengths: Ints, rng: np.random.Generator
) -> list[Ints]:
    """Return each user's items in the order of choice.

    The largest n of scores + Gumbel noise are a sample without replacement, in order.
    """
    chosen: list[Ints] = []
    for low in range(0, len(taste), 500):
        part = slice(low, low + 500)
        if truth.feedback == "implicit":
            score = truth.popularity + taste[part] @ truth.item_factors.T
        else:
            score = np.broadcast_to(3.0 * truth.popularity, (len(taste[part]), len(birth)))
        score = score + rng.gumbel(size=score.shape)
        score[birth[None, :] > start[part, None]] = -np.inf
        order = np.argsort(-score, axis=1, kind="stable")
        alive = np.isfinite(score).sum(axis=1)
        ends = np.minimum(lengths[part], alive)
        chosen += [row[:end] for row, end in zip(order, ends, strict=True)]
    return chosen


def _events(
    truth: Truth, taste: Floats, start: Ints, shown: list[Ints], rng: np.random.Generator
) -> pl.DataFrame:
    lengths = np.array([len(row) for row in shown])
    user, item = np.repeat(np.arange(len(shown)), lengths), np.concatenate(shown)
    gap = 1 + rng.exponential(_MEAN_GAP, len(item)).astype(np.int64)
    first = np.cumsum(lengths) - lengths
    total = np.cumsum(gap)
    time = _BEGIN + start[user] + total - np.repeat(total[first], lengths)
    mean = truth.offset + truth.popularity[item] + (taste[user] * truth.item_factors[item]).sum(1)
    if truth.feedback == "explicit":
        label = mean + truth.noise_std * rng.standard_normal(len(item))
    elif truth.feedback == "binary":
        label = (rng.random(len(item)) < 1 / (1 + np.exp(-mean))).astype(np.float64)
    else:
        label = np.ones(len(item))
    hour = rng.integers(0, 24, len(item))
    columns = {"user": user + 1, "item": item + 1, "label": label.astype(np.float32)}
    return pl.DataFrame({**columns, "time": time, "hour": hour}).sort("time", "user", "item")


def _zipf(count: int, exponent: float) -> Floats:
    weight = np.arange(1, count + 1) ** -exponent
    return weight / weight.sum()
