"""A teacher's answers: what they are, who hears them, and what cannot teach."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.label_scale import UNCHANGED, LabelScale
from metarec_ray.checkpoint import Checkpoint, parameters_sha256
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.core.batch import Lane
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data, Synthetic
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError, ConfigError
from metarec_ray.inference.recommender import Recommender
from metarec_ray.inference.supports import Supports
from metarec_ray.training.fit import fit
from metarec_ray.training.meta_step.distillation import SILENT, Teaching
from metarec_ray.training.meta_step.step import Alone, LaneResult
from metarec_ray.training.segments import resume
from metarec_ray.training.teacher import Teacher, teacher_of
from metarec_ray.training.trainer import Trainer
from tests.unit.training.on_validation import validate
from tests.unit.training.rating_log import store_of
from tests.unit.training.test_trainer import Half

SMALL = {
    "model": {"dim": 4},
    "train": {
        "num_workers": 1, "steps": 6, "lanes": 2, "lane_tasks": 4, "reference_items": 16,
        "tasks": {"ks": [0, 2, 5], "window": 5, "query_size": 4},
    },
}  # fmt: skip


def experiment(**values: Any) -> Experiment:
    return override(parse(SMALL, "test"), {k.replace("__", "."): v for k, v in values.items()})


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store, cache=synthetic_store.parent / "cache")


def saved(checkpoint: Checkpoint, path: Path) -> str:
    checkpoints.save(checkpoint, path)
    return str(path)


@pytest.fixture(scope="module")
def teacher(store: TaskStore, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ridge of the store, which a run's folder holds."""
    folder = tmp_path_factory.mktemp("teacher")
    fitted = fit(experiment(algorithm__name="windowed_ridge"), store)
    checkpoints.save(fitted, checkpoints.step_path(folder / "checkpoints", 0))
    return str(folder)


def first_lane(trainer: Trainer) -> Lane:
    return trainer.sampler.lane(0, 0, 0, lanes=2, lane_tasks=4)


def advanced(trainer: Trainer, steps: int = 6) -> Trainer:
    for _ in range(steps):
        trainer.train_step(Alone())
    return trainer


def bits(trainer: Trainer) -> str:
    return parameters_sha256(trainer.parameters()) + parameters_sha256(trainer.state.moments)


@pytest.mark.parametrize("negatives", [0, 7])
def test_answers_are_those_that_a_request_with_the_support_is_given(
    store: TaskStore, teacher: str, negatives: int
) -> None:
    trainer = Trainer(experiment(train__teacher=teacher, train__tasks__negatives=negatives), store)
    assert trainer.teacher is not None
    lane = first_lane(trainer)
    tasks, answers = lane.tasks, trainer.teacher.answers(lane)
    assert not tasks.answers.shape[1]
    ridge = Recommender.load(trainer.teacher.path)
    scored = 0
    for task in range(4):
        known = tasks.support.item[task][tasks.support.mask[task]]
        support = Supports(
            item=lane.items[known][None] if len(known) else torch.zeros(1, 1).long(),
            label=torch.ones(1, max(1, len(known))),
            mask=torch.full((1, max(1, len(known))), bool(len(known))),
            time=tasks.support.time[task : task + 1, : max(1, len(known))],
            context=tasks.support.context.at(torch.tensor([task])),
            user=lane.user.at(torch.tensor([task])),
            now=tasks.query.context.at(torch.tensor([task])),
        )
        whole = ridge.predictor.log_share(ridge.scores(support))[0]
        candidates = lane.items
        if negatives:
            candidates = lane.items[torch.cat([tasks.query.item[task], tasks.negatives[task]])]
        heard = answers[task] > SILENT
        torch.testing.assert_close(answers[task][heard], whole[candidates][heard])
        scored += int(heard.sum())
    assert scored >= 4 * negatives


def test_answers_do_not_depend_on_what_is_asked_for(store: TaskStore, teacher: str) -> None:
    trainer = Trainer(experiment(train__teacher=teacher), store)
    assert trainer.teacher is not None
    lane = first_lane(trainer)
    other = lane.tasks.query._replace(
        item=lane.tasks.query.item.flip(0), label=torch.zeros_like(lane.tasks.query.label)
    )
    changed = lane._replace(tasks=lane.tasks._replace(query=other))
    assert torch.equal(trainer.teacher.answers(lane), trainer.teacher.answers(changed))


def test_without_weight_nobody_is_asked_and_the_bits_are_those_without_a_teacher(
    store: TaskStore, teacher: str
) -> None:
    asked = experiment(train__teacher=teacher, train__teacher_weight=0.0)
    silent = Trainer(asked, store)
    assert silent.teacher is None
    alone, taught = Trainer(experiment(), store), Trainer(experiment(train__teacher=teacher), store)
    assert bits(advanced(silent)) == bits(advanced(alone)) != bits(advanced(taught))


@pytest.mark.parametrize("learner", ["bayesian_head", "maml", "transformer", "prototype"])
def test_every_kind_of_learner_hears_its_teacher_and_changes_nothing_of_it(
    store: TaskStore, teacher: str, learner: str
) -> None:
    asked = experiment(algorithm__name=learner, train__teacher=teacher)
    taught, alone = Trainer(asked, store), Trainer(override(asked, {"train.teacher": None}), store)
    assert taught.teacher is not None
    before = taught.teacher.answers(first_lane(taught))
    assert not before.requires_grad
    assert bits(advanced(taught, 2)) != bits(advanced(alone, 2))
    assert torch.equal(taught.teacher.answers(first_lane(taught)), before)


def test_two_workers_end_with_the_bits_of_one(store: TaskStore, teacher: str) -> None:
    # Threads share the generator that users are left out by; workers are processes.
    asked = experiment(train__teacher=teacher, model__user_dropout=0.0)
    board: dict[int, LaneResult] = {}
    barrier = threading.Barrier(2)
    workers = [Trainer(asked, store) for _ in range(2)]

    def work(rank: int) -> None:
        for _ in range(4):
            workers[rank].train_step(Half(rank, board, barrier))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({bits(trainer) for trainer in (*workers, advanced(Trainer(asked, store), 4))}) == 1


def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped_and_knows_its_teacher(
    store: TaskStore, teacher: str, tmp_path: Path
) -> None:
    asked = experiment(train__teacher=teacher)
    straight = advanced(Trainer(asked, store))
    first = advanced(Trainer(asked, store), 3)
    checkpoints.save(first.checkpoint({}), checkpoints.step_path(tmp_path / "run", 3))
    path, found = Path(teacher), checkpoints.latest(Path(teacher) / "checkpoints")
    assert found is not None
    # The same teacher elsewhere is the same teacher.
    moved = Trainer(override(asked, {"train.teacher": saved(found[1], tmp_path / "moved")}), store)
    assert resume(moved, tmp_path / "run") == 3
    assert bits(advanced(moved, 3)) == bits(straight)
    another = fit(experiment(algorithm__name="popularity"), store)
    other = Trainer(override(asked, {"train.teacher": saved(another, tmp_path / "other")}), store)
    with pytest.raises(
        CheckpointError, match=rf"train\.teacher was '.*{path.name}' and is '.*other'"
    ):
        resume(other, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"train\.teacher was .* and is none"):
        resume(Trainer(experiment(), store), tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"train\.teacher_weight was 1.0 and is 2.0"):
        resume(Trainer(override(asked, {"train.teacher_weight": 2.0}), store), tmp_path / "run")


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskStore, Tensor]:
    """A log of noisy ratings by tastes, and what tells an item's rating of a taste, [I, 2]."""
    rng = np.random.default_rng(0)
    users, items, events = 120, 24, 12
    taste, item = rng.standard_normal((users, 2)), rng.standard_normal((items, 2))
    user = np.repeat(np.arange(users), events)
    rated = np.concatenate([rng.choice(items, events, replace=False) for _ in range(users)])
    label = 3 + (taste[user] * item[rated]).sum(1) + 1.5 * rng.standard_normal(len(user))
    store = store_of(tmp_path_factory.mktemp("ratings"), user, rated, label)
    order = [int(one) for one in store.items.ids]
    return store, torch.from_numpy(item[order]).float()


class Truth:
    """Predicts by the posterior mean of a user's taste under the model that made the log."""

    def __init__(self, item: Tensor):
        self.item = item

    def scores(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
        assert items is not None
        met = self.item[supports.item] * supports.mask.unsqueeze(-1)
        precision = torch.eye(2) + met.mT @ met / 1.5**2
        rest = ((supports.label - 3) * supports.mask / 1.5**2).unsqueeze(-1)
        taste = torch.linalg.solve(precision, met.mT @ rest)
        return 3 + (self.item[items] @ taste).squeeze(-1)

    shares_are_scores = True

    def log_share(self, scores: Tensor) -> Tensor:
        return scores

    def stds(self, supports: Supports, items: Tensor) -> None:
        return None

    def adapted(self, supports: Supports) -> int:
        return 2


def test_a_student_of_the_truth_predicts_better_than_one_of_labels_alone(
    ratings: tuple[TaskStore, Tensor],
) -> None:
    store, item = ratings
    asked = experiment(
        train__parts="train", train__steps=60, train__lane_tasks=16, train__outer_lr=0.03
    )
    alone, taught = Trainer(asked, store), Trainer(asked, store)
    truth = Truth(item)
    taught.teacher = Teacher(
        Path("truth"), "0", "truth", truth, taught.trained, "explicit", taught.label_scale
    )
    taught.teaching = Teaching(2.0)
    taught.draw_from(taught.sampler.share)
    errors = [validate(advanced(trainer, 60))[1] for trainer in (taught, alone)]
    assert errors[0] < errors[1] - 0.02


def test_predictions_are_told_on_the_scale_of_the_students_labels(
    ratings: tuple[TaskStore, Tensor],
) -> None:
    store, item = ratings
    trainer = Trainer(experiment(), store)
    path, truth, scale = Path("truth"), Truth(item), trainer.label_scale
    lane = first_lane(trainer)
    said = {}
    for own in (scale, UNCHANGED):
        teacher = Teacher(path, "0", "truth", truth, trainer.trained, "explicit", own)
        labels = lane.tasks.support._replace(label=own.standardise(
            scale.restore(lane.tasks.support.label), lane.tasks.support.mask
        ))  # fmt: skip
        said[own] = teacher.answers(lane._replace(tasks=lane.tasks._replace(support=labels)))
    real = lane.tasks.query.mask
    torch.testing.assert_close(scale.restore(said[scale])[real], said[UNCHANGED][real])
    assert (said[scale][~real] == SILENT).all()


def refused(asked: Experiment, store: TaskStore, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence) as raised:
        teacher_of(asked, store, LabelScale())
    assert "\n" not in str(raised.value)


def test_who_cannot_teach_is_refused_in_one_sentence(
    store: TaskStore, ratings: tuple[TaskStore, Tensor], teacher: str, tmp_path: Path
) -> None:
    asked = experiment(train__teacher=str(tmp_path / "nobody"))
    refused(asked, store, CheckpointError, r"^train\.teacher must be a checkpoint or the folder of")
    asked = experiment(train__teacher=teacher)
    refused(asked, ratings[0], CheckpointError, "from implicit, now explicit")
    small = Data(buckets=1, synthetic=Synthetic(users=60, items=80, mean_events=20.0))
    build_store(read_log(small), small, tmp_path / "small")
    other = TaskStore.open(tmp_path / "small")
    refused(asked, other, CheckpointError, "learned from the store of its student")
    asked = experiment(train__teacher=teacher, train__parts="train")
    refused(asked, store, ConfigError, r"must not know, got .* of train\+valid")
    ranks = fit(experiment(algorithm__name="ease"), ratings[0])
    asked = experiment(train__teacher=saved(ranks, tmp_path / "ranks"))
    refused(asked, ratings[0], ConfigError, "labels of explicit feedback, got .* of ease, which")


def test_answers_without_a_number_are_refused(
    store: TaskStore, teacher: str, tmp_path: Path
) -> None:
    found = checkpoints.latest(Path(teacher) / "checkpoints")
    assert found is not None
    broken = {name: value * torch.nan if value.is_floating_point() else value
              for name, value in found[1].model.items()}  # fmt: skip
    asked = experiment(train__teacher=saved(found[1]._replace(model=broken), tmp_path / "nan"))
    refused(asked, store, CheckpointError, "to a user of whom nothing is known")
    trainer = Trainer(experiment(train__teacher=teacher), store)
    assert trainer.teacher is not None
    lost = trainer.teacher._replace(
        predictor=Recommender(found[1]._replace(model=broken)).predictor
    )
    with pytest.raises(CheckpointError, match=r"must be finite, .* for entity \d+ \(4 of the 4"):
        lost.answers(first_lane(trainer))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"train.teacher_weight": 2.0}, "teacher_weight needs a teacher, got 2.0 and none"),
        ({"train.teacher_temperature": 2.0}, "teacher_temperature needs a teacher, got 2.0"),
        ({"train.teacher": "x", "train.periods": 2}, "periods must be 1 with a teacher, got 2"),
        (
            {"train.teacher": "x", "train.teacher_weight": -1},
            r"teacher_weight must be >= 0, got -1",
        ),
    ],
)
def test_a_teacher_that_makes_no_sense_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        override(experiment(), values)


def test_a_learner_without_an_outer_loop_has_no_teacher(store: TaskStore, teacher: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.teacher steers an outer loop, ease is fitted"):
        fit(experiment(algorithm__name="ease", train__teacher=teacher), store)
