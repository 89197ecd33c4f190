"""What augmented tasks do to a run: its bits, who is refused, and what a learner makes of them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit
from metarec_ray.training.trainer import Trainer
from tests.unit.training.on_validation import validate
from tests.unit.training.rating_log import store_of

USERS, ITEMS, EVENTS = 200, 30, 20
SMALL = {"steps": 4, "lanes": 2, "lane_tasks": 4, "num_workers": 1, "reference_items": 16}
SHIFTED = {"label_shift": 1.0}


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    """Ratings that are the mean of a group of users, and noise; a feature tells the group."""
    folder, rng = tmp_path_factory.mktemp("means"), np.random.default_rng(0)
    group = rng.integers(5, size=USERS)
    user = np.repeat(np.arange(USERS), EVENTS)
    rated = np.concatenate([rng.choice(ITEMS, EVENTS, replace=False) for _ in range(USERS)])
    label = group[user] + rng.standard_normal(len(user))
    known = {"id": np.arange(USERS), "group": group.astype(str)}
    pl.DataFrame(known).write_parquet(folder / "users.parquet")
    users = {
        "path": str(folder / "users.parquet"),
        "id": "id",
        "features": {"group": {"kind": "categorical"}},
    }
    return store_of(folder, user, rated, label, users=users)


@pytest.fixture(scope="module")
def positives(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


def experiment(**train: object) -> Experiment:
    return parse({"model": {"dim": 4, "user_dropout": 0.0}, "train": SMALL | train}, "test")


def parameters(store: TaskStore, asked: Experiment, steps: int = 4) -> dict[str, torch.Tensor]:
    trainer = Trainer(asked, store)
    for _ in trainer.run(steps):
        pass
    return trainer.parameters()


def test_zeros_train_the_bits_of_no_augmentation_and_others_do_not(ratings: TaskStore) -> None:
    plain = parameters(ratings, experiment())
    zeros = parameters(ratings, experiment(augmentation={}))
    others = parameters(ratings, experiment(augmentation=SHIFTED))
    assert all(torch.equal(plain[name], zeros[name]) for name in plain)
    assert any(not torch.equal(plain[name], others[name]) for name in plain)
    # What is counted over the log is counted over the labels as they are.
    buffers = [name for name in plain if name.startswith("buffer.")]
    assert all(torch.equal(plain[name], others[name]) for name in buffers)


def test_a_resumed_run_is_the_one_that_never_stopped(ratings: TaskStore, tmp_path: Path) -> None:
    asked = experiment(augmentation=SHIFTED)
    whole = parameters(ratings, asked)
    begun = Trainer(asked, ratings)
    for _ in begun.run(2):
        pass
    again = Trainer(asked, ratings)
    again.restore(begun.checkpoint({}), tmp_path)
    for _ in again.run(4):
        pass
    assert all(torch.equal(value, whole[name]) for name, value in again.parameters().items())


def test_validation_is_of_tasks_as_they_are(ratings: TaskStore) -> None:
    assert validate(Trainer(experiment(), ratings)) == validate(
        Trainer(experiment(augmentation=SHIFTED), ratings)
    )


def answer_to_a_shift(store: TaskStore, shift: float) -> float:
    """By how much a score moves for a support of ten whose labels are all one higher."""
    train = {"steps": 150, "lanes": 1, "lane_tasks": 24, "outer_lr": 0.03, "weight_decay": 0.0}
    more = {"parts": "train", "tasks": {"query_size": 6}, "augmentation": {"label_shift": shift}}
    asked = override(experiment(**train, **more), {"algorithm": {"name": "meta_sgd"}})
    judge, predictor = validation(asked, store), Recommender(fit(asked, store)).predictor
    support = judge.tasks.supports(10)
    moved = support._replace(label=support.label + support.mask)
    return (predictor.scores(moved) - predictor.scores(support)).mean().item()


def test_who_knows_the_user_reads_the_support_only_if_labels_are_shifted(
    ratings: TaskStore,
) -> None:
    # The group tells the mean: what is left of a support is noise, and a learner that knows it does
    # not move. Labels have the variance 2 + 1, of which 1 is noise; so ten of them tell 10 s^2 /
    # (10 s^2 + 1) = 30 / 31 of a shift.
    assert abs(answer_to_a_shift(ratings, 0.0)) < 0.15
    assert answer_to_a_shift(ratings, 1.0) == pytest.approx(30 / 31, abs=0.15)


def test_positives_have_no_labels_to_shift(positives: TaskStore) -> None:
    sentence = "label_shift moves ratings, which implicit feedback has none of, got 1.0"
    with pytest.raises(ConfigError, match=sentence):
        fit(experiment(augmentation=SHIFTED), positives)
    fit(experiment(augmentation={}), positives)


def test_a_learner_without_an_outer_loop_is_refused(ratings: TaskStore) -> None:
    asked = override(experiment(augmentation=SHIFTED), {"algorithm": {"name": "user_item_bias"}})
    with pytest.raises(ConfigError, match=r"train.augmentation steers an outer loop, user_item_b"):
        fit(asked, ratings)


def test_a_teacher_does_not_answer_shifted_labels() -> None:
    with pytest.raises(ConfigError, match=r"augmentation.label_shift must be 0 with a teacher"):
        experiment(augmentation=SHIFTED, teacher="runs/teacher")
