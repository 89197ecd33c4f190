import numpy as np
import polars as pl
import pytest

from metarec_ray.data.datasets import synthetic
from metarec_ray.data.settings import Synthetic

SMALL = Synthetic(users=400, items=120, factors=4, mean_events=20.0)


def test_the_same_seed_gives_the_same_log_and_another_seed_another() -> None:
    one, same = (synthetic.generate(SMALL, "implicit", 3) for _ in range(2))
    assert one.events.equals(same.events)
    assert one.items.equals(same.items)
    assert not one.events.equals(synthetic.generate(SMALL, "implicit", 4).events)


def test_the_log_has_the_size_that_was_asked_for() -> None:
    log = synthetic.generate(SMALL, "implicit", 0)
    assert log.users["id"].to_list() == list(range(1, 401))
    assert log.items["id"].to_list() == list(range(1, 121))
    assert log.events["user"].n_unique() == 400
    assert len(log.events) / 400 == pytest.approx(20.0, rel=0.05)


def test_nobody_picks_an_item_twice_or_before_it_exists() -> None:
    log = synthetic.generate(SMALL, "implicit", 0)
    assert not log.events.select("user", "item").is_duplicated().any()
    firsts = log.events.group_by("item").agg(pl.col("time").min())["time"]
    begun = firsts.to_numpy()
    late = (begun > begun.min() + 100 * 86_400).sum()
    assert late > 0.05 * 120  # some items are only met long after the clock has begun


def test_users_begin_all_along_the_clock() -> None:
    log = synthetic.generate(SMALL, "implicit", 0)
    begin = log.events.group_by("user").agg(pl.col("time").min())["time"].to_numpy()
    early, late = np.quantile(begin, [0.1, 0.9])
    assert late - early == pytest.approx(0.8 * 400 * 86_400, rel=0.1)  # uniform over 400 days


def test_popularity_is_skewed() -> None:
    counts = synthetic.generate(SMALL, "implicit", 0).events["item"].value_counts()["count"]
    ordered = np.sort(counts.to_numpy())[::-1]
    assert ordered[:12].sum() > 1.5 * 0.1 * ordered.sum()  # a tenth of the items


def test_scores_vary_as_much_as_the_settings_say() -> None:
    truth = synthetic.generate(Synthetic(users=3000, items=800), "implicit", 0).truth
    settings = Synthetic()
    spread = truth.item_factors.var(axis=0).sum()
    features = (truth.user_prior**2).sum(axis=1).mean() * spread / settings.factors
    own = truth.taste_std**2 * spread
    assert own == pytest.approx(settings.signal_std**2 * (1 - settings.prior_share), rel=0.1)
    assert features == pytest.approx(settings.signal_std**2 * settings.prior_share, rel=0.1)


def test_a_rating_is_the_score_plus_noise() -> None:
    log = synthetic.generate(SMALL, "explicit", 0)
    truth = log.truth
    item = log.events["item"].to_numpy() - 1
    known = truth.offset + truth.popularity[item]
    prior = truth.user_prior[log.events["user"].to_numpy() - 1] * truth.item_factors[item]
    rest = log.events["label"].to_numpy() - known - prior.sum(axis=1)
    # what the prior mean does not say: taste (q . q summed over factors) and noise
    expected = truth.taste_std**2 * (truth.item_factors[item] ** 2).sum(axis=1).mean()
    assert rest.mean() == pytest.approx(0.0, abs=0.1)
    assert rest.var() == pytest.approx(expected + truth.noise_std**2, rel=0.15)


def test_a_click_is_zero_or_one_and_both_are_common() -> None:
    label = synthetic.generate(SMALL, "binary", 0).events["label"]
    assert set(label.to_list()) == {0.0, 1.0}
    assert 0.2 < label.cast(pl.Float64).to_numpy().mean() < 0.6
