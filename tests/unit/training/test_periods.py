from pathlib import Path

import pytest
import torch

from metarec_ray.config.experiment import override, parse
from metarec_ray.core.batch import Lane
from metarec_ray.core.histories import Histories
from metarec_ray.errors import ConfigError
from metarec_ray.training.periods import mixed
from metarec_ray.training.trainer import Trainer
from tests.unit.training.small import SMALL, small_trainer


@pytest.fixture(scope="module")
def trainer(synthetic_store: Path) -> Trainer:
    return small_trainer(synthetic_store)


@pytest.mark.parametrize(("replay", "expected"), [(0.25, 5), (0.7, 14)])
def test_a_share_of_the_lanes_is_of_what_was_seen_whoever_computes_them(
    trainer: Trainer, replay: float, expected: int
) -> None:
    first = trainer.sampler.histories.task_id < trainer.sampler.histories.task_id.median()

    def part(histories: Histories, mine: torch.Tensor) -> Histories:
        return histories.keep(mine.repeat_interleave(histories.lengths()))

    everything = trainer.sampler.histories
    new, seen = (
        trainer.source.sampler_of(part(everything, mine), trainer.trained, trainer.sampler.cut)
        for mine in (first, ~first)
    )
    share = mixed(new, seen, replay)
    sizes = {"lanes": 4, "lane_tasks": 2}
    found: dict[tuple[int, int], Lane] = {}
    for step in range(5):
        for rank in range(2):
            own = share(0, step, rank, 2, **sizes)
            found |= {(step, index): lane for index, lane in own.items()}
        for index, lane in share(0, step, 0, 1, **sizes).items():
            assert torch.equal(lane.entity, found[step, index].entity)
    middle = everything.task_id.median()
    replayed = [bool((lane.entity >= middle).all()) for lane in found.values()]
    assert len(replayed) == 20
    assert sum(replayed) == expected
    assert sum(bool((lane.entity < middle).all()) for lane in found.values()) == 20 - expected


@pytest.mark.parametrize(("key", "value"), [("replay", 0.5), ("anchor", 0.0)])
def test_replay_and_anchor_are_refused_without_periods(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{key} needs periods > 1, got {value} and periods 1"):
        override(parse(SMALL, "test"), {f"train.{key}": value})
