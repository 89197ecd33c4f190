from pathlib import Path

import pytest
import torch

from metarec_ray.core.batch import Params
from metarec_ray.training.meta_step.anchor import Anchor
from metarec_ray.training.meta_step.step import Alone
from metarec_ray.training.trainer import Trainer
from tests.unit.training.small import small_trainer


@pytest.fixture(scope="module")
def trainer(synthetic_store: Path) -> Trainer:
    return small_trainer(synthetic_store)


def fresh(trainer: Trainer) -> Trainer:
    return Trainer(trainer.experiment, trainer.store)


def state(trainer: Trainer) -> Params:
    return trainer.state.dense | trainer.state.tables


def test_an_anchor_draws_what_a_step_changed_back_by_rate_times_strength(trainer: Trainer) -> None:
    free, held = fresh(trainer), fresh(trainer)
    begun = {name: value.clone() for name, value in state(free).items()}
    held.after_step = Anchor(held.state, 30.0)
    free.train_step(Alone())
    held.train_step(Alone())
    share = 0.01 * 30.0  # of the way back: the first step warms up to the whole rate
    assert held.experiment.train.outer_lr == 0.01
    for name, value in state(held).items():
        moved = state(free)[name] - begun[name]
        torch.testing.assert_close(value, begun[name] + (1 - share) * moved)
    untouched = (free.state.tables["item.ids"] == begun["item.ids"]).all(1)
    assert 0 < untouched.sum() < len(untouched)
    assert torch.equal(held.state.tables["item.ids"][untouched], begun["item.ids"][untouched])


def test_an_anchor_that_is_stronger_than_the_rate_holds_everything(trainer: Trainer) -> None:
    held = fresh(trainer)
    begun = {name: value.clone() for name, value in held.parameters().items()}
    held.after_step = Anchor(held.state, 1e9)
    for _ in held.run(2):
        pass
    for name, value in held.parameters().items():
        torch.testing.assert_close(value, begun[name])
