"""Runs that differ in rates alone, trained as one: what each becomes, and who leaves."""

from pathlib import Path
from typing import Any

import pytest
import torch

from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, RunFailed
from metarec_ray.training.stacked.stack import Stack
from metarec_ray.training.trainer import Trainer
from tests.unit.training.small import SMALL

RATES = (
    {"algorithm.inner_lr": 0.2, "train.outer_lr": 0.01},
    {"algorithm.inner_lr": 0.7, "train.outer_lr": 0.003, "train.weight_decay": 3.0},
    {"algorithm.inner_lr": 0.4, "train.outer_lr": 0.03, "train.max_gradient_norm": 0.01},
)


def experiments(**keys: Any) -> list[Experiment]:
    base = parse({**SMALL, "algorithm": {"name": "maml"}}, "test")
    base = override(base, {name.replace("__", "."): value for name, value in keys.items()})
    return [override(base, rates) for rates in RATES]


def trained(experiment: Experiment, store: TaskStore, steps: int) -> Trainer:
    trainer = Trainer(experiment, store)
    for _ in trainer.run(steps):
        pass
    return trainer


def assert_same(one: Trainer, other: Trainer) -> None:
    assert one.step == other.step
    # The constant of choices has no gradient but rounding, which Adam takes for one.
    names = (one.state.dense.keys() | one.state.tables.keys()) - {"head.out.bias"}
    for name in names:
        ours, theirs = one.parameters()[name], other.parameters()[name]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


@pytest.mark.parametrize("negatives", [0, 3])
def test_every_run_becomes_what_it_becomes_alone(store: TaskStore, negatives: int) -> None:
    asked = experiments(train__tasks__negatives=negatives)
    stack = Stack(asked, store)
    stack.run(3)
    assert stack.step == 3
    for number, experiment in enumerate(asked):
        assert_same(stack.trainers[number], trained(experiment, store, 3))


def test_parts_that_are_frozen_stay(store: TaskStore) -> None:
    asked = experiments(train__freeze=["item"])
    stack = Stack(asked, store)
    before = {n: p.clone() for n, p in stack.trainers[0].parameters().items()}
    stack.run(2)
    after = stack.trainers[0].parameters()
    assert torch.equal(after["item.ids"], before["item.ids"])
    assert not torch.equal(after["user.tokens"], before["user.tokens"])
    assert_same(stack.trainers[1], trained(asked[1], store, 2))


def test_a_run_that_diverges_leaves_with_the_reason_it_has_alone(store: TaskStore) -> None:
    asked = experiments()
    asked[1] = override(asked[1], {"algorithm.inner_lr": 1e38})
    stack = Stack(asked, store)
    stack.run(3)
    with pytest.raises(RunFailed) as alone:
        trained(asked[1], store, 3)
    (number,) = stack.failed
    assert number == 1
    assert stack.failed[1].why == str(alone.value)
    assert str(stack.failed[1].step) in str(alone.value)
    for other in (0, 2):
        assert_same(stack.trainers[other], trained(asked[other], store, 3))


def test_who_is_dropped_is_trained_no_further_and_the_others_are(store: TaskStore) -> None:
    asked = experiments()
    stack = Stack(asked, store)
    stack.run(1)
    first = stack.trainers[0]
    stack.drop(0)
    stack.run(3)
    assert first.step == 1
    assert_same(stack.trainers[2], trained(asked[2], store, 3))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"algorithm": {"name": "transformer"}}, "are of maml, fomaml, anil, meta_sgd, .*, got tr"),
        ({"model.hidden": [4]}, r"adapt the last layer alone, maml with model.hidden \[4\]"),
        ({"model.encoder": {"name": "film"}}, "adapt no encoder, got film"),
    ],
)
def test_what_cannot_be_stacked_is_refused(
    store: TaskStore, keys: dict[str, Any], sentence: str
) -> None:
    base = parse({**SMALL, "algorithm": {"name": "maml"}}, "test")
    with pytest.raises(ConfigError, match=sentence):
        Stack([override(base, keys)], store)


def test_runs_that_differ_in_more_than_rates_are_refused(store: TaskStore) -> None:
    base = parse({**SMALL, "algorithm": {"name": "maml"}}, "test")
    other = override(base, {"algorithm.inner_steps": 5})
    with pytest.raises(ConfigError, match=r"got 3 and 5 for algorithm.inner_steps"):
        Stack([base, other], store)
