"""The last event of every history: who is asked what, and that nothing learns from it."""

from pathlib import Path

import polars as pl
import pytest
import torch

from metarec_ray.algorithms.base import FittedLearner, Fitting, Learner, MetaLearner
from metarec_ray.algorithms.rivals.counts import Popularity
from metarec_ray.algorithms.rivals.neighbours import ItemKNN
from metarec_ray.config.experiment import Experiment, parse
from metarec_ray.config.judging import Blending
from metarec_ray.core.batch import Params
from metarec_ray.core.histories import Histories
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.protocol_settings import LeaveLastOut
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.evaluation.bench import leaks
from metarec_ray.evaluation.bench.lineup import algorithms
from metarec_ray.evaluation.bench.protocols import Candidate, open_protocol
from metarec_ray.evaluation.blend import member_experiments
from metarec_ray.evaluation.protocols.leave_last_out import cut_tasks, last_event_tasks
from metarec_ray.evaluation.protocols.strict import strict_tasks
from metarec_ray.evaluation.rivals import fitted
from metarec_ray.evaluation.table.rows import Header, judge
from metarec_ray.evaluation.table.text import render
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.recommender import Recommender
from metarec_ray.report.bench_markdown import markdown
from metarec_ray.training.fit import fit
from metarec_ray.training.trainer import Trainer
from tests.unit.small_histories import histories_of

USERS, COMMON = 120, 10
CHOICE, LAST = COMMON, COMMON + 1  # items that are met as the last two events alone
HELD = {"train": CHOICE, "train+valid": LAST}  # the first item that is held out
IMPLICIT = {name: one for name, one in algorithms().items() if "implicit" in one.suits}
SMALL = LeaveLastOut(ks=(3,), masked=3)


def of(base: type[Learner]) -> list[str]:
    return [name for name, one in IMPLICIT.items() if issubclass(one, base)]


def asked(name: str = "popularity", parts: str = "train+valid", **algorithm: int) -> Experiment:
    train: dict[str, object] = {"parts": parts, "num_workers": 1, "lanes": 1, "lane_tasks": 4}
    train |= {"reference_items": 4, "tasks": {"ks": [2], "query_size": 2}}
    tree = {
        "algorithm": {"name": name, **algorithm},
        "model": {"dim": 4},
        "train": train,
        "evaluate": {"leave_last_out": SMALL.model_dump(), "resamples": 100},
    }
    return parse(tree, "the test")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    """Everybody's last two events are with items that nobody meets otherwise."""
    folder = tmp_path_factory.mktemp("last")
    events = [
        {"user": user, "item": item, "time": 100 * user + place, "mood": f"mood {item}"}
        for user in range(USERS)
        for place, item in enumerate(
            [*((user + n * n) % COMMON for n in range(4 + user % 5)), CHOICE, LAST]
        )
    ]
    pl.DataFrame(events).write_parquet(folder / "log.parquet")
    items = pl.DataFrame({"id": range(LAST + 1), "kind": [f"kind {i}" for i in range(LAST + 1)]})
    items.write_parquet(folder / "items.parquet")
    kind = Feature(kind="categorical")
    settings = Data.model_validate(
        {
            "path": str(folder / "log.parquet"),
            "columns": Columns(time="time"),
            "items": SideTable(path="items.parquet", id="id", features={"kind": kind}),
            "context": {"mood": kind},
            "split": "last",
            "buckets": 2,
        }
    )
    build_store(read_log(settings), settings, folder / "store")
    return TaskStore.open(folder / "store", cache=folder / "cache")


def met(histories: Histories) -> set[int]:
    return set(histories.item.tolist())


def test_what_is_learned_from_lacks_the_last_event_and_for_choices_the_one_before(
    store: TaskStore,
) -> None:
    whole = store.histories(cut=False)
    assert met(whole) == set(range(LAST + 1))
    for parts, left in ((("train",), 2), (("train", "valid"), 1), (("valid",), 1)):
        found = store.histories(parts)
        assert found.n_entities == USERS
        assert torch.equal(found.lengths(), whole.lengths() - left)
        assert met(found) == set(range(LAST + 1 - left))
    assert not store.trained_items()[LAST]
    assert store.manifest.parts == {"train": USERS}
    # Vocabularies are what training can learn from, too.
    for words in (store.vocabularies["item"]["kind"], store.vocabularies["context"]["mood"]):
        assert len(words) == COMMON


@pytest.mark.parametrize("parts", ["train", "train+valid"])
@pytest.mark.parametrize(
    "name", [n for n, one in IMPLICIT.items() if issubclass(one, FittedLearner)]
)
def test_no_fitted_learner_meets_the_held_out_events(
    store: TaskStore, name: str, parts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, seen = IMPLICIT[name], set[int]()
    assert issubclass(learner, FittedLearner)
    whole = learner.fit

    def watched(self: FittedLearner, histories: Histories, fitting: Fitting) -> Params:
        seen.update(met(histories))
        return whole(self, histories, fitting)

    monkeypatch.setattr(learner, "fit", watched)
    small = {n: 2 for n in ("epochs", "dim", "heads") if n in learner.model_fields}
    trained = fit(asked(name, parts, **small), store)
    assert seen == set(range(HELD[parts]))
    assert not trained.model["buffer.trained"][HELD[parts] :].any()


@pytest.mark.parametrize("parts", ["train", "train+valid"])
@pytest.mark.parametrize("name", of(MetaLearner))
def test_no_lane_and_no_statistic_of_items_has_the_held_out_events(
    store: TaskStore, name: str, parts: str
) -> None:
    trainer = Trainer(asked(name, parts), store)
    source, held = trainer.source, HELD[parts]
    assert met(source.histories) == set(range(held))
    assert not source.trained[held:].any()
    assert int(source.buffers["reference.items"].max()) < held
    lanes = [lane for n in (0, 1) for lane in source.sampler().epoch(n, lane_tasks=40)]
    assert lanes
    assert max(int(lane.items.max()) for lane in lanes) < held


def test_the_query_is_the_last_event_and_the_support_what_is_newest_before_it(
    store: TaskStore,
) -> None:
    tasks = last_event_tasks(store, SMALL)
    whole = store.histories(cut=False)
    assert tasks.query.squeeze(1).tolist() == [LAST] * USERS
    for row in (0, 7):
        own = whole.take(torch.tensor([row])).item.tolist()
        support = tasks.supports(3)
        assert support.item[row][support.mask[row]].tolist() == own[-4:-1]
        assert not tasks.supports(0).mask.any()
        masked = set(range(LAST + 1)) - set(tasks.candidates(3)[row].nonzero().flatten().tolist())
        assert masked == set(own[-4:-1])
        assert tasks.gains()[row].nonzero().flatten().tolist() == [LAST]
    assert torch.equal(tasks.at(torch.tensor([3])).supports(3).item, tasks.supports(3).item[3:4])


def test_choices_are_made_on_the_event_before_the_last(store: TaskStore) -> None:
    judge = validation(asked(), store)
    assert judge.tasks.query.squeeze(1).tolist() == [CHOICE] * USERS
    support = judge.tasks.supports(3)
    assert int(support.item[support.mask].max()) < CHOICE
    assert judge.ks == (3,)
    chosen = fit(asked(parts="train"), store)
    # Nobody met it in training: it is never among the first ten of twelve but by a tie.
    assert 0 <= judge.value(Recommender(chosen).predictor) < 0.5


def test_histories_of_fewer_than_three_and_repeats_among_the_masked_are_not_judged() -> None:
    lists = [[0], [0, 1], [0, 1, 2], [0, 1, 0], [0, 1, 2, 3, 0], [], [4, 4, 5]]
    whole = histories_of(lists, n_items=6)
    tasks = cut_tasks(whole, whole, LeaveLastOut(masked=3))
    assert tasks.entity.tolist() == [2, 4, 6]  # the repeat of 4 is older than three events
    assert tasks.query.squeeze(1).tolist() == [2, 0, 5]
    fewer = cut_tasks(whole, whole, LeaveLastOut(masked=3, entities=2))
    assert len(fewer.entity) == 2
    assert set(fewer.entity.tolist()) < {2, 4, 6}


def test_metrics_are_those_of_the_rank_among_all_candidates(store: TaskStore) -> None:
    opened = open_protocol("leave_last_out", asked(), store, seed=0, data_dir=None)
    assert len(opened.entities) == USERS
    recommender = fitted(ItemKNN(), asked(), store)
    (found,) = opened.measure(Candidate("item_knn", "rival", 0, recommender))
    tasks = last_event_tasks(store, SMALL)
    scores = recommender.scores(tasks.supports(3)).masked_fill(~tasks.candidates(3), -torch.inf)
    own = scores.gather(1, tasks.query)
    others = scores.isfinite() & (torch.arange(LAST + 1) != LAST)
    rank = 1 + ((scores > own) & others).sum(1) + ((scores == own) & others).sum(1) / 2
    assert found.values["mrr"].tolist() == pytest.approx((1 / rank).tolist(), rel=1e-4)


def test_the_table_says_that_it_leaks_wherever_it_is_shown(store: TaskStore) -> None:
    opened = open_protocol("leave_last_out", asked(), store, seed=0, data_dir=None)
    measured = opened.measure(
        Candidate("popularity", "rival", 0, fitted(Popularity(), asked(), store))
    )
    mark = "leaks time: other users' later events are trained on; not comparable with strict"
    rows = judge(measured, Header("log", "implicit", 0, "leave_last_out"), resamples=100)
    assert [row["leaks"] for row in rows] == [mark]
    assert mark in render(rows)
    assert f"{USERS} known users" in render(rows)
    assert f"**This protocol {mark}.**" in markdown(rows)
    strict = judge(measured, Header("log", "implicit", 0, "strict"), resamples=100)
    assert "leaks" not in strict[0]
    assert "leaks" not in render(strict) + markdown(strict)


def test_a_store_and_a_protocol_that_do_not_go_together_are_refused(
    store: TaskStore, synthetic_store: Path
) -> None:
    other = TaskStore.open(synthetic_store)
    with pytest.raises(ConfigError, match=r"last events .* \(data.split: last\), got .*split=time"):
        open_protocol("leave_last_out", asked(), other, seed=0, data_dir=None)
    for name in ("strict", "cross_domain"):
        with pytest.raises(ConfigError, match=f"--protocol {name} judges entities that training"):
            open_protocol(name, asked(), store, seed=0, data_dir=None)
    with pytest.raises(ConfigError, match="--protocol strict judges"):
        strict_tasks(store, asked().evaluate)
    rated = store.manifest.model_copy(update={"feedback": "explicit"})
    with pytest.raises(ConfigError, match="needs implicit feedback, got explicit"):
        last_event_tasks(TaskStore(store.path, rated), SMALL)
    blend = Blending(members={"one": {}, "other": {"algorithm.name": "ease"}})
    with pytest.raises(ConfigError, match="a blend has weights for each k"):
        member_experiments(asked().model_copy(update={"blend": blend}), store)


def test_a_query_that_training_holds_is_refused(store: TaskStore) -> None:
    tasks = last_event_tasks(store, SMALL)
    leaks.refuse_held_events(store, tasks)
    earlier = tasks.events.keep(tasks.events.position() < tasks.events.lengths().min() - 1)
    with pytest.raises(DataError, match="last event of an entity must not be in training"):
        leaks.refuse_held_events(store, tasks._replace(events=earlier))


def test_too_few_entities_are_refused(tmp_path: Path) -> None:
    log = pl.DataFrame({"user": [0, 0, 0, 1], "item": [0, 1, 2, 0], "time": [0, 1, 2, 3]})
    log.write_parquet(tmp_path / "log.parquet")
    settings = Data(path=str(tmp_path / "log.parquet"), columns=Columns(time="time"), split="last")
    build_store(read_log(settings), settings, tmp_path / "store")
    few = TaskStore.open(tmp_path / "store")
    with pytest.raises(DataError, match=r"needs 100 entities .* got 1 of 2"):
        last_event_tasks(few, SMALL)
    assert len(last_event_tasks(few, SMALL, force=True).entity) == 1
