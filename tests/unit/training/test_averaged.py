from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import ALONE, Fitting
from metarec_ray.checkpoint import parameters_sha256
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.training.averaged import round_segments, shard
from metarec_ray.training.fit import fit
from metarec_ray.training.meta_step.step import Alone
from metarec_ray.training.metrics_log import Progress
from metarec_ray.training.segments import resume, save, train_segments
from metarec_ray.training.trainer import Trainer

SMALL = {
    "model": {"dim": 3},
    "train": {
        "num_workers": 1, "steps": 4, "lanes": 2, "lane_tasks": 4, "reference_items": 8,
        "average": {"shards": 2, "rounds": 2},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


def experiment(**values: Any) -> Experiment:
    return override(parse(SMALL, "test"), {k.replace("__", "."): v for k, v in values.items()})


def averaged(trainer: Trainer, fitting: Fitting = ALONE) -> list[Progress]:
    """Take the rounds that are left; return their lines."""
    lines: list[Progress] = []
    train_segments(round_segments(trainer, fitting), report=lines.append)
    return lines


def test_shards_are_disjoint_and_hold_every_entity(store: TaskStore) -> None:
    histories = store.histories(("train",))
    parts = [shard(histories, index=i, shards=3, seed=1).lengths() for i in range(3)]
    held = torch.stack(parts) > 0
    assert torch.equal(held.sum(0), (histories.lengths() > 0).long())
    assert held.sum(1).max() - held.sum(1).min() <= 1


def test_a_round_ends_with_the_mean_of_its_shards_weighted_by_entities(store: TaskStore) -> None:
    asked = experiment(train__average={"shards": 2, "rounds": 1}, train__steps=2)
    alone = []
    for index in range(2):
        own = partial(shard, index=index, shards=2, seed=0)
        trainer = Trainer(asked, store, tasks_from=own)
        for _ in range(2):
            trainer.train_step(Alone())
        alone.append(trainer)
    mean = Trainer(asked, store)
    (line,) = averaged(mean)
    first, second = (len(trainer.sampler) for trainer in alone)
    share = first / (first + second)
    for name, value in (mean.state.dense | mean.state.tables).items():
        ours = [(t.state.dense | t.state.tables)[name] for t in alone]
        torch.testing.assert_close(value, share * ours[0] + (1 - share) * ours[1])
    assert (line.step, mean.step) == (2, 2)


def test_the_order_in_which_shards_run_changes_no_bit(store: TaskStore) -> None:
    def backwards(function, values):
        return [function(value) for value in reversed(values)][::-1]

    forth, back = Trainer(experiment(), store), Trainer(experiment(), store)
    assert [line.step for line in averaged(forth)] == [2, 4]
    averaged(back, Fitting(each=backwards))
    assert parameters_sha256(forth.parameters()) == parameters_sha256(back.parameters())


def test_rounds_resume_to_the_bits_of_a_run_that_never_stopped(
    store: TaskStore, tmp_path: Path
) -> None:
    asked = experiment(train__freeze=["item"])
    straight = Trainer(asked, store)
    begun = straight.state.dense["item.tokens"].clone()
    segments = round_segments(straight, ALONE, at_end=partial(save, tmp_path / "a"))
    train_segments(segments, report=lambda line: None)
    paths = checkpoints.committed(tmp_path / "a")
    assert [path.name for path in paths] == ["step-00000002", "step-00000004"]
    again = Trainer(asked, store)
    checkpoints.save_step(checkpoints.load(paths[0]), tmp_path / "b")
    assert resume(again, tmp_path / "b") == 2
    assert [line.step for line in averaged(again)] == [4]
    assert parameters_sha256(again.parameters()) == parameters_sha256(straight.parameters())
    assert parameters_sha256(again.state.moments) == parameters_sha256(straight.state.moments)
    assert torch.equal(straight.state.dense["item.tokens"], begun)
    fitted = fit(asked, store).model
    assert parameters_sha256(fitted) == parameters_sha256(checkpoints.load(paths[1]).model)


def test_averaging_what_no_outer_loop_trains_is_refused(store: TaskStore) -> None:
    sentence = r"train.average steers an outer loop, ease is fitted without one, got .*shards=2"
    with pytest.raises(ConfigError, match=sentence):
        fit(experiment(algorithm__name="ease"), store)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("train.steps", 5, "steps must be a multiple of 2, average.rounds or periods, got 5"),
        ("train.device", "cuda", "device must be auto or cpu with average or periods, got cuda"),
        ("train.periods", 2, "periods must be 1 with average, got 2"),
    ],
)
def test_settings_that_contradict_averaging_are_refused(
    key: str, value: object, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        override(experiment(), {key: value})
