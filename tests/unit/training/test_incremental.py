import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarec_ray import checkpoint as checkpoints
from metarec_ray.checkpoint import parameters_sha256
from metarec_ray.config.experiment import Experiment, absolute, beside, override, parse
from metarec_ray.data.draws import uniform
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError, ConfigError, DataError
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit
from metarec_ray.training.incremental import (
    FORGETTING,
    VERDICT,
    PeriodModel,
    PeriodRun,
    forgetting,
)
from metarec_ray.training.periods import cut
from metarec_ray.training.run_folder.metrics_log import Progress
from metarec_ray.training.segments import train_segments
from metarec_ray.training.trainer import Trainer

SMALL = {
    "model": {"dim": 3},
    "train": {
        "num_workers": 1, "steps": 4, "lanes": 2, "lane_tasks": 4, "reference_items": 8,
        "periods": 2, "tasks": {"ks": [0, 2], "window": 2, "query_size": 2},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


def experiment(**values: Any) -> Experiment:
    return override(parse(SMALL, "test"), {k.replace("__", "."): v for k, v in values.items()})


def trained(asked: Experiment, store: TaskStore) -> list[PeriodModel]:
    """Return the model after each period."""
    run = PeriodRun(asked, store)
    train_segments(run.segments(), report=silent)
    return run.models


def silent(line: Progress) -> None:
    del line


def test_periods_hold_equally_many_events(store: TaskStore) -> None:
    found = cut(experiment(train__periods=4, train__steps=4), store)
    total = len(store.histories(("train", "valid")).item)
    assert sum(found.events) == total
    assert max(found.events) - min(found.events) <= 1
    assert found.of(torch.tensor([found.starts[2] - 1, found.starts[2]])).tolist() == [1, 2]


def test_forgetting_is_the_best_earlier_quality_minus_the_final_one() -> None:
    quality = [[0.5, 0.1, 0.0], [0.4, 0.6, 0.2], [0.3, 0.7, 0.9]]
    assert forgetting(quality) == pytest.approx([0.5 - 0.3, 0.6 - 0.7])


def test_a_period_is_begun_from_the_last_and_judged_on_all(store: TaskStore) -> None:
    lines: list[Progress] = []
    run = PeriodRun(experiment(), store)
    train_segments(run.segments(), report=lines.append)
    first, second = run.models
    assert [(line.step, line.steps) for line in lines] == [(2, 4), (4, 4)]
    assert [one.checkpoint.state["step"] for one in (first, second)] == [2, 4]
    table = run.summary()
    assert table["metric"] == "query_ndcg@10"
    assert len(table["quality"]) == len(table["quality"][0]) == 2
    lost = first.quality[0] - second.quality[0]
    assert table["forgetting"] == pytest.approx([lost])
    assert table["mean_forgetting"] == pytest.approx(lost)
    written = Recommender(second.checkpoint).experiment
    found = beside(written, Path("runs/default/checkpoints/step-00000004"))
    assert found == absolute(experiment(), Path.cwd())
    # Nothing moves at a rate of almost 0: then the second period has the parameters of the first.
    still = experiment(train__outer_lr=1e-12, train__weight_decay=0.0)
    before, after = (one.checkpoint.model for one in trained(still, store))
    met = before["buffer.trained"].bool()
    assert torch.equal(before["item.ids"][met], after["item.ids"][met])
    torch.testing.assert_close(
        before["head.out.weight"], after["head.out.weight"], atol=1e-9, rtol=0
    )


def test_held_out_entities_and_later_periods_are_not_learned_from(store: TaskStore) -> None:
    seen = [one.checkpoint.model for one in trained(experiment(), store)]
    histories = store.histories(("train", "valid"))
    task = histories.task_id.numpy()
    drawn = uniform(0, np.zeros(len(task), np.int64), task, draws=5)[:, 4] < 0.1
    assert 0 < drawn.sum() < len(task)
    taught = ~torch.from_numpy(drawn).repeat_interleave(histories.lengths())
    own = cut(experiment(), store).of(histories.time)
    for period, model in enumerate(seen):
        met = histories.item[taught & (own <= period)].unique()
        assert model["buffer.trained"].nonzero().flatten().tolist() == met.tolist()


def test_periods_resume_to_the_bits_of_a_run_that_never_stopped(
    store: TaskStore, tmp_path: Path
) -> None:
    lines: list[Progress] = []

    def run(folder: Path, asked: Experiment) -> PeriodRun:
        run = PeriodRun(asked, store, learned=lambda run: run.write_summary(folder))
        folder.mkdir(exist_ok=True)
        run.resume(folder)
        segments = run.segments(lambda checkpoint: checkpoints.save_step(checkpoint, folder))
        train_segments(segments, report=lines.append)
        return run

    straight = run(tmp_path / "a", experiment())
    paths = checkpoints.committed(tmp_path / "a")
    assert [path.name for path in paths] == ["step-00000002", "step-00000004"]
    (tmp_path / "b").mkdir()
    checkpoints.save_step(checkpoints.load(paths[0]), tmp_path / "b")
    again = run(tmp_path / "b", experiment())
    assert [line.step for line in lines] == [2, 4, 4]
    for ours, theirs in zip(straight.models, again.models, strict=True):
        hashes = {parameters_sha256(one.checkpoint.model) for one in (ours, theirs)}
        assert len(hashes) == 1
        assert ours.quality == theirs.quality
    tables = [(tmp_path / name / FORGETTING).read_text() for name in ("a", "b")]
    assert tables[0] == tables[1]
    assert json.loads(tables[0]) == straight.summary()
    with pytest.raises(CheckpointError, match=r"train.outer_lr was 0.01 and is 0.5"):
        run(tmp_path / "a", override(experiment(), {"train.outer_lr": 0.5}))


def spoiled(trainer: Trainer, until: int) -> Iterator[Progress]:
    """Train, and end with offsets that rank the catalogue upside down."""
    lines = list(trainer.run(until))
    trainer.state.dense["offset.scale"] -= 9.0
    yield from lines


def test_a_period_that_ends_below_the_model_before_it_is_refused_and_the_run_goes_on(
    store: TaskStore, tmp_path: Path
) -> None:
    asked, said = experiment(train__periods=3, train__steps=6), []

    def run(folder: Path) -> PeriodRun:
        run = PeriodRun(asked, store, learned=lambda run: said.append(run.sentence()))
        run.resume(folder)
        segments = run.segments(lambda checkpoint: checkpoints.save_step(checkpoint, folder))
        if len(segments) > 1:
            segments[-2] = segments[-2]._replace(advance=spoiled)
        train_segments(segments, report=silent)
        return run

    straight = run(tmp_path / "a")
    first, second, third = straight.models
    assert second.verdict.before is not None
    assert second.verdict.after < second.verdict.before
    table = straight.summary()
    assert table["refused"] == [False, True, third.verdict.refused]
    assert table["seen"][1] == {"before": second.verdict.before, "after": second.verdict.after}
    assert re.search(r"refused: 0\.\d{4} on all that was seen, 0\.\d{4} before it", said[1])
    # The parameters are those of the period before; what items count is counted anew.
    one, two = first.checkpoint.model, second.checkpoint.model
    met, now = (model["buffer.trained"].bool() for model in (one, two))
    assert now.sum() >= met.sum()
    for name, value in one.items():
        if name == "item.ids":
            assert torch.equal(two[name][met], value[met])
            assert not two[name][now & ~met].any()
        elif not name.startswith("buffer."):
            assert torch.equal(two[name], value)
    assert not torch.equal(one["buffer.offset"], two["buffer.offset"])
    # The run resumes with the same bits after the refused period, and in the middle of it.
    for kept in (1, 2):
        folder = tmp_path / f"b{kept}"
        for path in checkpoints.committed(tmp_path / "a")[:kept]:
            checkpoints.save_step(checkpoints.load(path), folder)
        again = run(folder)
        assert again.summary() == table
        hashes = {parameters_sha256(r.models[-1].checkpoint.model) for r in (straight, again)}
        assert len(hashes) == 1


def test_a_period_learns_from_all_that_was_seen_or_from_its_own_events(store: TaskStore) -> None:
    for replay in (1.0, 0.0):
        run = PeriodRun(experiment(train__replay=replay), store)
        first, second = run.segments()
        train_segments([first], report=silent)
        taught = second.prepare().sampler.histories
        earlier = run.periods.of(taught.time) == 0
        assert bool(earlier.any()) == (replay == 1.0)
        assert not bool(earlier.all())


def test_checkpoints_of_periods_that_were_not_judged_are_refused(
    store: TaskStore, tmp_path: Path
) -> None:
    run = PeriodRun(experiment(), store)
    train_segments(run.segments()[:1], report=silent)
    old = run.models[0].checkpoint
    state = {key: value for key, value in old.state.items() if key != VERDICT}
    checkpoints.save_step(old._replace(state=state), tmp_path)
    with pytest.raises(CheckpointError, match=r"verdict on each period.*choose another run\.dir"):
        run.resume(tmp_path)


def test_logs_without_so_many_moments_are_refused(store: TaskStore) -> None:
    moments = len(store.histories(("train", "valid")).time.unique())
    too_many = experiment(train__periods=1000, train__steps=1000)
    if moments < 1000:
        with pytest.raises(DataError, match=rf"1000 periods need .* and {moments} moments"):
            cut(too_many, store)
    with pytest.raises(DataError, match=r"every period needs a held-out entity with more than 2"):
        trained(too_many, store)


def test_periods_of_what_cannot_be_continued_are_refused(store: TaskStore) -> None:
    with pytest.raises(ConfigError, match=r"train.periods steers an outer loop, ease is fitted"):
        fit(experiment(algorithm__name="ease"), store)
    with pytest.raises(ConfigError, match=r"steps must be a multiple of 3, .* got 4"):
        experiment(train__periods=3)
