"""Labels without a unit: what is learned from ratings is the same in any unit."""

from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
import torch

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import FittedLearner, Learner
from metarec_ray.algorithms.closed_form.bayesian import BayesianHead
from metarec_ray.algorithms.closed_form.eb_ridge import EBRidge
from metarec_ray.algorithms.in_context.recurrent import Recurrent
from metarec_ray.algorithms.label_scale import UNCHANGED, LabelScale
from metarec_ray.algorithms.rivals.als import MfFoldIn
from metarec_ray.algorithms.rivals.counts import Popularity
from metarec_ray.algorithms.union import Algorithm, name_of
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import parse
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError
from metarec_ray.inference.recommender import Recommender, SupportEvent
from metarec_ray.training.fit import fit
from metarec_ray.training.held_out import evaluate_starts
from metarec_ray.training.trainer import Trainer
from tests.unit.algorithms.fitted import small

USERS, ITEMS, EVENTS = 24, 10, 6
STARS = (1.0, 0.0)
UNITS = {"thousandths": (1e-3, 0.0), "millions from 1,000 on": (1e6, 1e9)}
TRAIN: dict[str, Any] = {
    "steps": 2, "lanes": 1, "lane_tasks": 8, "num_workers": 1, "outer_lr": 0.01,
    "tasks": {"ks": [0, 2], "window": 2, "query_size": 3},
}  # fmt: skip
GIVEN = {2: 5.0, 5: 1.0, 7: 2.0}  # stars of three items
PREDICTING = [
    one
    for one in get_args(get_args(Algorithm)[0])
    if "explicit" in one.suits and not one.ranks_only
]


def store_of(folder: Path, unit: tuple[float, float], stars: torch.Tensor) -> TaskStore:
    """Return the store of ratings [USERS, EVENTS], `unit` = (factor, shift) of the stars."""
    order = torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(1)).argsort(1)
    rows = [
        (user, int(order[user, at]), unit[0] * float(stars[user, at]) + unit[1], at)
        for user in range(USERS)
        for at in range(EVENTS)
    ]
    log = pl.DataFrame(rows, schema=["user", "item", "label", "time"], orient="row")
    log.write_parquet(folder / "log.parquet")
    asked = Data(
        path=str(folder / "log.parquet"),
        columns=Columns(label="label", time="time"),
        feedback="explicit",
        cutoff_quantile=1.0,
        buckets=1,
    )
    build_store(read_log(asked), asked, folder / "store")
    return TaskStore.open(folder / "store")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[float, float], TaskStore]:
    stars = torch.randint(1, 6, (USERS, EVENTS), generator=torch.Generator().manual_seed(2))
    return {
        unit: store_of(tmp_path_factory.mktemp("rated"), unit, stars)
        for unit in (STARS, *UNITS.values())
    }


@pytest.fixture(scope="module")
def equal(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    return store_of(tmp_path_factory.mktemp("equal"), (7e5, 0.0), torch.ones(USERS, EVENTS))


def fitted(learner: type[Learner], store: TaskStore) -> Checkpoint:
    name = name_of(learner)
    own = small(learner).model_dump() if issubclass(learner, FittedLearner) else {"name": name}
    train = {} if issubclass(learner, FittedLearner) else TRAIN
    return fit(parse({"model": {"dim": 4}, "algorithm": own, "train": train}, "a test"), store)


def predicted(checkpoint: Checkpoint, unit: tuple[float, float]) -> torch.Tensor:
    """Return the predicted labels [ITEMS] of a user with some ratings, brought back to stars."""
    factor, shift = unit
    support = [SupportEvent(str(item), factor * stars + shift) for item, stars in GIVEN.items()]
    model = Recommender(checkpoint)
    ranked = model.rank(support, k=ITEMS, exclude_seen=False).items
    scores = {int(item.id): item.score for item in ranked}
    found = torch.tensor([scores[item] for item in range(ITEMS)], dtype=torch.float64)
    # The list is that of the scores, in whatever unit.
    assert [found[int(item.id)] for item in ranked] == sorted(found, reverse=True)
    return (found - shift) / factor


@pytest.mark.parametrize("learner", PREDICTING, ids=name_of)
def test_predicted_ratings_do_not_depend_on_the_unit_of_ratings(
    learner: type[Learner], stores: dict[tuple[float, float], TaskStore]
) -> None:
    expected = predicted(fitted(learner, stores[STARS]), STARS)
    for unit in UNITS.values():
        found = predicted(fitted(learner, stores[unit]), unit)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("learner", [EBRidge, MfFoldIn, BayesianHead, Recurrent], ids=name_of)
def test_ratings_that_are_all_equal_are_what_is_predicted(
    learner: type[Learner], equal: TaskStore
) -> None:
    checkpoint = fitted(learner, equal)
    found = Recommender(checkpoint).rank([SupportEvent("2", 7e5)], k=ITEMS).items
    assert [item.score for item in found] == pytest.approx([7e5] * (ITEMS - 1), abs=1)


def test_labels_are_standardised_and_restored() -> None:
    scale = LabelScale.of(torch.tensor([1.0, 5.0, 3.0, 3.0]))
    assert scale == pytest.approx((3.0, 2.0**0.5))  # the variance is (4 + 4 + 0 + 0) / 4
    label, mask = torch.tensor([5.0, 3.0, 9.0]), torch.tensor([True, True, False])
    standard = scale.standardise(label, mask)
    assert standard.tolist() == pytest.approx([2**0.5, 0.0, 0.0])
    assert scale.restore(standard).tolist() == pytest.approx([5.0, 3.0, 3.0])
    assert LabelScale.of_buffers(scale.buffers("buffer."), "buffer.") == scale
    assert LabelScale.of_buffers(scale.buffers(), "buffer.") is None


def test_labels_without_a_spread_have_the_unit_one() -> None:
    assert LabelScale.of(torch.full((3,), 0.1)) == (torch.tensor(0.1).item(), 1.0)
    assert LabelScale.of(torch.zeros(0)) == UNCHANGED


def test_thresholds_are_compared_with_ratings_as_they_are() -> None:
    label = torch.tensor([1.0, 5.0])
    assert Popularity(positive_min=4.0).label_scale(label, "explicit") == UNCHANGED
    assert EBRidge().label_scale(label, "explicit") == (3.0, 2.0)
    assert BayesianHead().label_scale(label, "binary") == UNCHANGED


def trainer(store: TaskStore, **train: Any) -> Trainer:
    tree = {"model": {"dim": 4}, "algorithm": {"name": "bayesian_head"}, "train": TRAIN | train}
    return Trainer(parse(tree, "a test"), store)


def test_losses_have_no_unit_and_the_reported_error_that_of_the_labels(
    stores: dict[tuple[float, float], TaskStore],
) -> None:
    (loss, error), (same, larger) = (
        evaluate_starts(one, one.store.histories(), one.trained)
        for one in (trainer(stores[STARS]), trainer(stores[1e6, 1e9]))
    )
    assert same == pytest.approx(loss, rel=1e-4)
    assert larger == pytest.approx(1e6 * error, rel=1e-4)
    assert 0.5 < error < 3  # of stars: their standard deviation is about 1.4


def test_a_run_has_one_scale_whatever_part_of_the_events_it_learns_from(
    stores: dict[tuple[float, float], TaskStore],
) -> None:
    whole = trainer(stores[STARS])
    high = Trainer(
        whole.experiment, stores[STARS], statistics_from=lambda one: one.keep(one.label > 0)
    )
    assert high.trained.sum() > 0
    assert high.label_scale == whole.label_scale


def test_what_learned_from_labels_as_they_are_is_served_and_neither_resumed_nor_copied(
    stores: dict[tuple[float, float], TaskStore], tmp_path: Path
) -> None:
    run = trainer(stores[STARS])
    now = run.checkpoint({})
    scale = run.label_scale
    before = now._replace(
        model={n: p for n, p in now.model.items() if not n.startswith("buffer.label.")}
    )
    without_unit, in_stars = (
        {item.id: item.score or 0.0 for item in Recommender(one).rank([], k=ITEMS).items}
        for one in (before, now)
    )
    assert in_stars == pytest.approx(
        {item: scale.restore(torch.tensor(score)).item() for item, score in without_unit.items()}
    )
    with pytest.raises(
        CheckpointError, match="learned from ratings as they are, by an older version"
    ):
        run.restore(before, tmp_path)
    checkpoints.save(before, tmp_path / "source")
    with pytest.raises(CheckpointError, match="a source that learned from standardised ratings"):
        trainer(stores[STARS], init_from=str(tmp_path / "source"))


def test_a_warm_start_takes_over_standard_deviations(
    stores: dict[tuple[float, float], TaskStore], tmp_path: Path
) -> None:
    source = trainer(stores[STARS])
    for _ in source.run(2):
        pass
    checkpoints.save(source.checkpoint({}), tmp_path / "source")
    warm = trainer(stores[1e6, 1e9], init_from=str(tmp_path / "source"))
    expected = predicted(source.checkpoint({}), STARS)
    found = predicted(warm.checkpoint({}), (1e6, 1e9))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
