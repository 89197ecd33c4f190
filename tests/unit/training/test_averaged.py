from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import ALONE, Fitting
from metarec_ray.checkpoint import parameters_sha256
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.config.running import Average
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.training.averaged import budget, round_segments, shard
from metarec_ray.training.fit import fit
from metarec_ray.training.meta_step.optimizer import rate
from metarec_ray.training.meta_step.step import Alone
from metarec_ray.training.run_folder.metrics_log import Progress
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


def test_a_round_ends_with_the_mean_of_its_shards_and_rows_with_that_of_who_read_them(
    store: TaskStore,
) -> None:
    few = {"train__tasks__negatives": 3, "train__reference_items": 4, "train__lane_tasks": 2}
    asked = experiment(train__average__rounds=1, model__user_ids=True, **few)
    mean = Trainer(asked, store)
    begun = {name: value.clone() for name, value in mean.parameters().items()}
    (line,) = averaged(mean)
    assert (line.step, line.steps, mean.step) == (4, 4, 4)
    half = asked.model_copy(update={"train": asked.train.model_copy(update={"steps": 2})})
    alone, read = [], []
    for index in range(2):  # each takes half of the steps, by the schedule of a run of half
        trainer = Trainer(half, store, tasks_from=partial(shard, index=index, shards=2, seed=0))
        sizes = {"lanes": 2, "lane_tasks": 2}
        lanes = [x for t in range(2) for x in trainer.sampler.share(0, t, 0, 1, **sizes).values()]
        masks = {n: torch.zeros(len(t), 1) for n, t in trainer.state.tables.items()}
        for lane in lanes:
            masks["item.ids"][lane.items] = 1.0
            masks["user.ids"][lane.entity] = 1.0
        for _ in range(2):
            trainer.train_step(Alone())
        alone.append(trainer)
        read.append(masks)
    sizes = [float(len(trainer.sampler)) for trainer in alone]
    for name, value in (mean.state.dense | mean.state.tables | mean.state.moments).items():
        table = name.removeprefix("m.").removeprefix("v.")
        parts = [t.state.dense | t.state.tables | t.state.moments for t in alone]
        start = begun.get(name, torch.zeros_like(value))
        weights = [
            size * (masks[table] if table in masks else torch.ones(()))
            for size, masks in zip(sizes, read, strict=True)
        ]
        total = weights[0] + weights[1]
        change = sum(w * (part[name] - start) for w, part in zip(weights, parts, strict=True))
        torch.testing.assert_close(value, start + change / total.clamp(min=1.0))
    both = read[0]["item.ids"] * read[1]["item.ids"]
    once = read[0]["item.ids"] + read[1]["item.ids"] - 2 * both
    assert both.sum() > 0
    assert once.sum() > 0
    # A user is known to one shard alone, and keeps all that was learned of it.
    users = sum(
        (t.state.tables["user.ids"] - begun["user.ids"]) * m["user.ids"]
        for t, m in zip(alone, read, strict=True)
    )
    torch.testing.assert_close(mean.state.tables["user.ids"] - begun["user.ids"], users)


def test_a_shard_that_has_everything_is_plain_training(store: TaskStore) -> None:
    asked = experiment(train__average=None)
    plain = Trainer(asked, store)
    for _ in plain.run(4):
        pass
    one = Average.model_construct(shards=1, rounds=1)  # which a configuration may not ask for
    train = asked.train.model_copy(update={"average": one})
    mean = Trainer(asked.model_copy(update={"train": train}), store)
    averaged(mean)
    for name, value in plain.parameters().items():
        torch.testing.assert_close(mean.parameters()[name], value)


def test_steps_are_shared_out_among_shards_and_not_multiplied(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []
    step = Trainer.train_step

    def counted(trainer: Trainer, exchange: Alone) -> torch.Tensor:
        taken.append(trainer.outer_lr())
        return step(trainer, exchange)

    monkeypatch.setattr(Trainer, "train_step", counted)
    asked = experiment(train__steps=8)
    lines = averaged(Trainer(asked, store))
    assert [(line.step, line.steps) for line in lines] == [(4, 8), (8, 8)]
    # Both shards go by the schedule of a run of four steps: warm up in one, decay over three.
    rates = [rate(i, steps=4, peak=asked.train.outer_lr, schedule="cosine") for i in range(4)]
    assert taken == [*rates[:2], *rates[:2], *rates[2:], *rates[2:]]
    assert budget(asked.train) == "8 meta-batches in all: 2 shards, 2 each in 2 rounds"


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
        (
            "train.steps",
            6,
            r"steps must be a multiple of 4, average.shards \* average.rounds, .* got 6",
        ),
        ("train.device", "cuda", "device must be auto or cpu with average or periods, got cuda"),
        ("train.periods", 2, "periods must be 1 with average, got 2"),
    ],
)
def test_settings_that_contradict_averaging_are_refused(
    key: str, value: object, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        override(experiment(), {key: value})
