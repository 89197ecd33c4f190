import threading
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.algorithms.union import Algorithm
from metarec_ray.checkpoint import parameters_sha256
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data, Synthetic
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError, RunFailed
from metarec_ray.training.meta_step.step import Alone, LaneResult
from metarec_ray.training.segments import resume
from metarec_ray.training.trainer import Trainer
from tests.unit.training.on_validation import validate

META_LEARNERS = [
    one.model_fields["name"].default
    for one in get_args(get_args(Algorithm)[0])
    if issubclass(one, MetaLearner)
]
SMALL = {
    "model": {"dim": 4, "user_ids": True},
    "train": {
        "num_workers": 1,
        "steps": 50,
        "lanes": 4,
        "lane_tasks": 4,
        "reference_items": 16,
        "checkpoint_every": 20,
        "log_every": 20,
    },
}


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store, cache=synthetic_store.parent / "cache")


def experiment(**values: Any) -> Experiment:
    asked = {key.replace("__", "."): value for key, value in values.items()}
    return override(parse(SMALL, "test"), asked)


def advanced(trainer: Trainer, steps: int) -> Trainer:
    for _ in range(steps):
        trainer.train_step(Alone())
    return trainer


class Half:
    """One of two workers: each hands its lanes in and takes all of them out."""

    world = 2

    def __init__(self, rank: int, board: dict[int, LaneResult], barrier: threading.Barrier):
        self.rank, self.board, self.barrier = rank, board, barrier

    def gather(self, mine: dict[int, LaneResult], lanes: int) -> list[LaneResult]:
        assert sorted(mine) == list(range(self.rank, lanes, 2))
        self.board.update(mine)
        self.barrier.wait(30)
        everything = [self.board[lane] for lane in range(lanes)]
        self.barrier.wait(30)
        return everything


@pytest.mark.parametrize("algorithm", ["bayesian_head", "maml"])
def test_two_workers_end_with_the_bits_of_one(store: TaskStore, algorithm: str) -> None:
    # Threads share the generator that users are left out by; workers are processes.
    asked = experiment(algorithm__name=algorithm, train__steps=4, model__user_dropout=0.0)
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
    alone = advanced(Trainer(asked, store), 4)
    assert alone.step == workers[0].step == workers[1].step == 4
    hashes = {parameters_sha256(trainer.parameters()) for trainer in (alone, *workers)}
    assert len(hashes) == 1


DOMAINS = {"feature": "genre", "weights": {"action": 1.0, "comedy": 2.0}}
TASKS = {"ks": [0, 2], "window": 2, "query_size": 2, "negatives": 8}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    """A store with genres so large that nobody has met one whole."""
    folder = tmp_path_factory.mktemp("wide") / "store"
    settings = Data(buckets=1, synthetic=Synthetic(users=60, items=600, mean_events=20.0))
    build_store(read_log(settings), settings, folder)
    return TaskStore.open(folder, cache=folder.parent / "cache")


@pytest.mark.parametrize(
    "values", [{}, {"train.domains": DOMAINS, "train.tasks": TASKS}], ids=["one", "domains"]
)
def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped(
    wide: TaskStore, tmp_path: Path, values: dict[str, Any]
) -> None:
    asked, store = experiment(**values), wide
    straight = advanced(Trainer(asked, store), 5)
    assert len(straight.sampler) < 5 * 4 * 4  # an epoch ends on the way
    first = advanced(Trainer(asked, store), 2)
    checkpoints.save(first.checkpoint({}), checkpoints.step_path(tmp_path, 2))
    second = Trainer(asked, store)
    assert resume(second, tmp_path) == 2
    advanced(second, 3)
    assert parameters_sha256(second.parameters()) == parameters_sha256(straight.parameters())
    assert parameters_sha256(second.state.moments) == parameters_sha256(straight.state.moments)
    assert parameters_sha256(first.parameters()) != parameters_sha256(straight.parameters())


def test_training_lowers_the_query_loss(store: TaskStore) -> None:
    asked = experiment(train__steps=20, train__lanes=2, train__lane_tasks=16, train__log_every=5)
    losses = [line.loss for line in Trainer(asked, store).run(20)]
    assert losses[-1] < losses[0]


def test_a_gradient_that_is_not_finite_stops_the_run(store: TaskStore) -> None:
    trainer = advanced(Trainer(experiment(), store), 3)
    trainer.state.dense["offset.scale"].fill_(float("nan"))
    with pytest.raises(RunFailed, match=r"step 3 has NaN or infinity in lanes \[0, 1, 2, 3\]"):
        trainer.train_step(Alone())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.outer_lr", 0.5),
        ("model.dim", 8),
        ("algorithm.prior_precision", 3.0),
        ("train.tasks.query_size", 4),
        ("train.lanes", 2),
    ],
)
def test_a_run_does_not_resume_with_another_configuration(
    store: TaskStore, tmp_path: Path, key: str, value: float
) -> None:
    first = Trainer(experiment(), store)
    checkpoints.save(first.checkpoint({}), checkpoints.step_path(tmp_path, 1))
    other = Trainer(override(experiment(), {key: value}), store)
    message = f"resumes with the configuration it began with, {key} was .* and is {value} .*anew"
    with pytest.raises(CheckpointError, match=message):
        resume(other, tmp_path)


@pytest.mark.parametrize("key", ["train.log_every", "train.checkpoint_every", "train.num_workers"])
def test_what_does_not_decide_numbers_may_change(
    store: TaskStore, tmp_path: Path, key: str
) -> None:
    asked = experiment(train__lanes=3)
    first = advanced(Trainer(asked, store), 1)
    checkpoints.save(first.checkpoint({}), checkpoints.step_path(tmp_path, 1))
    assert resume(Trainer(override(asked, {key: 3}), store), tmp_path) == 1


def test_a_run_does_not_resume_on_another_store_or_seed(store: TaskStore, tmp_path: Path) -> None:
    first = Trainer(experiment(), store)
    for name, value, said in (
        ("store_sha256", "0" * 64, "on the store it began with, .* has 000000000000"),
        ("seed", 7, "run.seed was 7 and is 0"),
    ):
        saved = first.checkpoint({})
        checkpoints.save(
            saved._replace(state=saved.state | {name: value}), checkpoints.step_path(tmp_path, 1)
        )
        with pytest.raises(CheckpointError, match=said):
            resume(Trainer(experiment(), store), tmp_path)


def test_items_that_are_never_trained_stay_at_the_zero_vector(store: TaskStore) -> None:
    trainer = advanced(Trainer(experiment(), store), 3)
    untrained = trainer.state.tables["item.ids"][~trainer.trained]
    assert len(untrained) > 0
    assert not untrained.any()


def test_users_that_are_not_trained_on_stay_at_the_zero_vector(store: TaskStore) -> None:
    trainer = advanced(Trainer(experiment(), store), 5)
    test = store.histories(("test",)).task_id
    assert not trainer.state.tables["user.ids"][test].any()
    assert bool(trainer.state.tables["user.ids"].any())


def test_no_event_of_test_entities_or_after_the_cutoff_is_trained_on(store: TaskStore) -> None:
    trainer = Trainer(experiment(), store)
    histories = trainer.sampler.histories
    cutoff = store.manifest.cutoff
    assert cutoff is not None
    assert int(histories.time.max()) < cutoff
    assert not set(histories.task_id.tolist()) & set(store.histories(("test",)).task_id.tolist())


def test_validation_changes_nothing_and_repeats(store: TaskStore) -> None:
    asked = experiment(train__parts="train", train__lane_tasks=8)
    trainer = advanced(Trainer(asked, store), 2)
    before = parameters_sha256(trainer.parameters())
    assert validate(trainer) == validate(trainer)
    assert parameters_sha256(trainer.parameters()) == before


@pytest.fixture(scope="module")
def of_one_lane(store: TaskStore) -> tuple[float, float]:
    """What validation finds where one lane holds all entities that are long enough, and no more."""
    asked = experiment(train__parts="train")
    valid = store.histories(("valid",))
    valid = valid.keep(Trainer(asked, store).trained[valid.item])
    longer = int((valid.lengths() > asked.train.tasks.window).sum())
    assert longer % 7 != 0
    return validate(Trainer(override(asked, {"train.lane_tasks": longer}), store))


@pytest.mark.parametrize("lane_tasks", [1, 3, 7, 1000])
def test_validation_counts_every_entity_once_whatever_the_lanes(
    store: TaskStore, of_one_lane: tuple[float, float], lane_tasks: int
) -> None:
    asked = experiment(train__parts="train", train__lane_tasks=lane_tasks)
    assert validate(Trainer(asked, store)) == pytest.approx(of_one_lane, rel=1e-5)


@pytest.mark.parametrize("algorithm", META_LEARNERS)
def test_every_meta_learner_trains_with_sampled_negatives(store: TaskStore, algorithm: str) -> None:
    tasks = {"negatives": 5, "window": 5, "ks": [0, 2], "query_size": 3}
    asked = experiment(algorithm__name=algorithm, train__tasks=tasks, train__lanes=1)
    assert bool(torch.isfinite(Trainer(asked, store).train_step(Alone())).all())


@pytest.mark.parametrize("algorithm", META_LEARNERS)
def test_every_meta_learner_resumes_to_the_bits_of_a_run_that_never_stopped(
    store: TaskStore, tmp_path: Path, algorithm: str
) -> None:
    asked = experiment(algorithm__name=algorithm, train__steps=2, train__lanes=1)
    trainer = advanced(Trainer(asked, store), 1)
    checkpoints.save(trainer.checkpoint({}), checkpoints.step_path(tmp_path, 1))
    resumed = Trainer(asked, store)
    assert resume(resumed, tmp_path) == 1
    for one in (trainer, resumed):
        advanced(one, 1)
    assert parameters_sha256(resumed.parameters()) == parameters_sha256(trainer.parameters())
    assert parameters_sha256(resumed.state.moments) == parameters_sha256(trainer.state.moments)
