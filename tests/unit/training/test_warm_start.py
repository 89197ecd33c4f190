from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from metarec_ray import checkpoint as checkpoints
from metarec_ray.checkpoint import parameters_sha256
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError, ConfigError
from metarec_ray.training import warm_start
from metarec_ray.training.meta_step.step import Alone
from metarec_ray.training.segments import resume
from metarec_ray.training.trainer import Trainer
from metarec_ray.training.warm_start import find

TRAIN = {
    "num_workers": 1, "steps": 6, "lanes": 2, "lane_tasks": 4, "reference_items": 8,
    "tasks": {"ks": [0, 2], "window": 2, "query_size": 2},
}  # fmt: skip
SMALL = {"model": {"dim": 3}, "train": TRAIN}


def experiment(**values: Any) -> Experiment:
    return override(parse(SMALL, "test"), {k.replace("__", "."): v for k, v in values.items()})


def store(folder: Path, items: list[int], colours: dict[int, str], **more: Any) -> TaskStore:
    """Users 0..39 who met `items` one a second; an item has a colour."""
    folder.mkdir()
    events = [(user, item, at) for user in range(40) for at, item in enumerate(items)]
    log = pl.DataFrame(events, schema=["user", "item", "time"], orient="row")
    log.write_parquet(folder / "log.parquet")
    table = pl.DataFrame({"id": list(colours), "colour": list(colours.values())})
    table.write_parquet(folder / "items.parquet")
    side = SideTable(
        path="items.parquet", id="id", features={"colour": Feature(kind="categorical")}
    )
    fields = {"path": str(folder / "log.parquet"), "columns": Columns(time="time"), "items": side}
    asked = Data.model_validate(fields | {"split": "hash", "valid_share": 0.3, "buckets": 1} | more)
    build_store(read_log(asked), asked, folder / "store")
    return TaskStore.open(folder / "store")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path]:
    """A trained run on items 1..6, where 9 is known and never met."""
    folder = tmp_path_factory.mktemp("source")
    colours = dict.fromkeys([1, 2, 3], "red") | dict.fromkeys([4, 5, 6, 9], "blue")
    trainer = Trainer(experiment(), store(folder / "a", [1, 2, 3, 4, 5, 6], colours))
    for _ in range(6):
        trainer.train_step(Alone())
    path = checkpoints.step_path(folder / "run" / "checkpoints", 6)
    checkpoints.save(trainer.checkpoint({}), path)
    return trainer, path


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    """Items 3..6 and 8, 9; blue and a new green: the rows of both sides are others."""
    folder = tmp_path_factory.mktemp("target")
    colours = {3: "blue", 4: "blue", 5: "green", 6: "green", 8: "green", 9: "blue"}
    return store(folder / "b", [3, 4, 5, 6, 8, 9], colours)


def test_parameters_are_copied_where_they_mean_the_same(
    source: tuple[Trainer, Path], target: TaskStore
) -> None:
    theirs, path = source
    fresh = Trainer(experiment(), target)
    warm = Trainer(experiment(train__init_from=str(path)), target)
    # Source items by row: 1 2 3 4 5 6 9; own ones: 3 4 5 6 8 9. The source never trained 9.
    copied = [(0, 2), (1, 3), (2, 4), (3, 5)]
    own, given = warm.state.tables["item.ids"], theirs.state.tables["item.ids"]
    for row, their_row in copied:
        assert torch.equal(own[row], given[their_row])
    assert torch.equal(own[4:], fresh.state.tables["item.ids"][4:])
    # Tokens: padding, unknown, blue, red there; padding, unknown, blue, green here.
    tokens, before = warm.state.dense["item.tokens"], fresh.state.dense["item.tokens"]
    assert torch.equal(tokens[2], theirs.state.dense["item.tokens"][2])
    # In a checkpoint, what no item of the source had says nothing.
    assert not tokens[:2].any()
    assert torch.equal(tokens[3], before[3])
    for name in ("head.out.weight", "offset.scale", "bayes.precision"):
        assert torch.equal(warm.state.dense[name], theirs.state.dense[name])
    assert not any(moment.any() for moment in warm.state.moments.values())
    assert warm.copied is not None
    sentence = warm.copied.sentence()
    assert "3 of 4 rows of item.tokens" in sentence
    assert "4 of 6 rows of item.ids" in sentence
    assert sentence.endswith("fresh: none")


def test_a_run_gives_its_newest_checkpoint(source: tuple[Trainer, Path]) -> None:
    path = source[1]
    assert find(path.parents[1])[0] == find(path)[0] == path


def test_another_width_leaves_what_it_shapes_fresh(
    source: tuple[Trainer, Path], target: TaskStore
) -> None:
    warm = Trainer(experiment(train__init_from=str(source[1]), model__dim=5), target)
    fresh = Trainer(experiment(model__dim=5), target)
    assert torch.equal(warm.state.tables["item.ids"], fresh.state.tables["item.ids"])
    assert warm.copied is not None
    assert {"item.ids", "item.tokens", "head.out.weight"} <= set(warm.copied.fresh)
    assert "offset.scale" in warm.copied.whole


def test_a_source_that_cannot_begin_a_run_is_refused(
    source: tuple[Trainer, Path], target: TaskStore, tmp_path: Path
) -> None:
    missing = experiment(train__init_from=str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"or the folder of a trained run, got .*nowhere"):
        Trainer(missing, target)
    checkpoint = checkpoints.load(source[1])
    other = checkpoint._replace(schema=checkpoint.schema | {"feedback": "explicit"})
    checkpoints.save(other, tmp_path / "ratings")
    with pytest.raises(CheckpointError, match="learned from explicit, now implicit"):
        Trainer(experiment(train__init_from=str(tmp_path / "ratings")), target)
    bare = checkpoint._replace(model={"similarity": torch.zeros(7, 7)})
    checkpoints.save(bare, tmp_path / "bare")
    with pytest.raises(CheckpointError, match=r"needs parameters in common, .*bare has none of"):
        Trainer(experiment(train__init_from=str(tmp_path / "bare")), target)


def test_a_warm_frozen_run_resumes_to_the_bits_of_one_that_never_stopped(
    source: tuple[Trainer, Path], target: TaskStore, tmp_path: Path
) -> None:
    asked = experiment(train__init_from=str(source[1]), train__freeze=["item"])
    straight, first = Trainer(asked, target), Trainer(asked, target)
    for step in range(6):
        straight.train_step(Alone())
        if step < 3:
            first.train_step(Alone())
    checkpoints.save(first.checkpoint({}), checkpoints.step_path(tmp_path, 3))
    second = Trainer(asked, target)
    assert resume(second, tmp_path) == 3
    for _ in range(3):
        second.train_step(Alone())
    assert parameters_sha256(second.parameters()) == parameters_sha256(straight.parameters())
    assert parameters_sha256(second.state.moments) == parameters_sha256(straight.state.moments)


def test_frozen_parameters_keep_their_bits_and_leave_the_norm(target: TaskStore) -> None:
    asked = experiment(train__freeze=["item"], train__weight_decay=2.0)
    trainer = Trainer(asked, target)
    begun = {n: p.clone() for n, p in (trainer.state.dense | trainer.state.tables).items()}
    trainer.train_step(Alone())
    now = trainer.state.dense | trainer.state.tables
    moved = {name for name, value in now.items() if not torch.equal(value, begun[name])}
    assert not any(name.startswith("item.") for name in moved)
    assert {"head.out.weight", "bayes.precision"} <= moved
    # The norm is clipped to 1e-6, of what moves alone: a first moment is .1 of the gradient.
    tight = Trainer(override(asked, {"train.max_gradient_norm": 1e-6}), target)
    tight.train_step(Alone())
    moments = [m for n, m in tight.state.moments.items() if n.startswith("m.")]
    norm = sum(float((m.double() / 0.1).square().sum()) for m in moments) ** 0.5
    assert norm == pytest.approx(1e-6, rel=1e-4)
    assert not tight.state.moments["m.item.ids"].any()


@pytest.mark.parametrize(
    ("learner", "parts", "sentence"),
    [
        ("maml", ["item", "learner"], r"have parameters, item, user, context, head, got learner"),
        ("maml", ["item", "user", "context", "head"], r"must leave dense parameters to train"),
        (
            "maml",
            ["items"],
            r"one of 'item', 'user', 'context', .*, got .items",
        ),
        ("maml", ["item."], r"not the beginning of a name: write item, got 'item\.'"),
        ("maml", ["offset.scale"], r"not the beginning of a name: write head, got"),
        ("bayesian_head", ["bayes."], r"not the beginning of a name: write learner, got"),
    ],
)
def test_freezing_nothing_or_everything_or_by_names_is_refused(
    target: TaskStore, learner: str, parts: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Trainer(experiment(algorithm__name=learner, train__freeze=parts), target)


def test_the_encoder_of_contexts_is_frozen_without_the_learner_that_reads_in_context(
    target: TaskStore,
) -> None:
    def frozen(part: str) -> set[str]:
        asked = experiment(algorithm__name="recurrent", train__freeze=[part])
        return set(Trainer(asked, target).frozen.dense)

    assert frozen("context") == {"context.tokens", "context.dense"}
    assert {"context.start", "context.state.weight"} <= frozen("learner")
    assert not frozen("learner") & frozen("context")


def test_a_source_at_a_uri_is_brought_here_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_start, "at_hand", {"s3://bucket/run": tmp_path}.__getitem__)
    with pytest.raises(CheckpointError, match=rf"folder of a trained run, got {tmp_path}"):
        find("s3://bucket/run")
