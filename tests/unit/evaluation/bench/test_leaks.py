"""Mistakes that public recommender code makes, each refused or shown to be absent here."""

from pathlib import Path

import polars as pl
import pytest
import torch

from metarec_ray.algorithms.rivals.counts import Popularity
from metarec_ray.config.experiment import Evaluate, override, parse
from metarec_ray.core import metrics
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError
from metarec_ray.evaluation.bench import leaks
from metarec_ray.evaluation.protocols.events import shuffled_ties
from metarec_ray.evaluation.protocols.ratings import rule_tasks
from metarec_ray.evaluation.protocols.strict import StrictTasks, strict_tasks
from metarec_ray.evaluation.rivals import fitted
from metarec_ray.evaluation.scoring import Method, recommender_method
from metarec_ray.evaluation.table.rows import Header, evaluate
from metarec_ray.evaluation.table.text import render
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit_histories
from tests.unit.small_histories import histories_of

SETTINGS = Evaluate(ks=(0, 1, 3), query_size=3, min_positives=6, resamples=500, force=True)
EXPERIMENT = parse(
    {
        "algorithm": {"name": "popularity"},
        "evaluate": {**SETTINGS.model_dump(), "ks": [0, 1, 3]},
        "train": {"parts": "train"},
    },
    "the test",
)
HEADER = Header("made", "implicit", 0)


@pytest.fixture(scope="module")
def tasks(store: TaskStore) -> StrictTasks:
    return strict_tasks(store, SETTINGS)


def scorer(name: str, scores: torch.Tensor, kind: str = "learner") -> Method:
    return Method(name, kind, 0.0, lambda k: scores)


def test_predictions_are_never_used_as_gains():
    # A metric that takes predictions for gains gives a constant more than one and the truth less.
    label = torch.tensor([[1.0, 5.0, 3.0, 2.0, 4.0, 1.0]]).expand(500, -1)
    gains, generator = metrics.graded(label), torch.Generator().manual_seed(0)
    for scores, level in ((label, 1.0), (3 * label + 2, 1.0)):
        ranked = metrics.rank(scores, gains, depth=5, generator=generator)
        assert metrics.ndcg(ranked, 5).mean().item() == pytest.approx(level)
    constant = metrics.rank(torch.full((500, 6), 4.0), gains, depth=5, generator=generator)
    discount = 1 / torch.log2(torch.arange(2.0, 7.0))
    floor = (
        gains[0].mean() * discount.sum() / (gains[0].sort(descending=True).values[:5] @ discount)
    )
    assert metrics.ndcg(constant, 5).mean().item() == pytest.approx(floor.item(), abs=0.02)


@pytest.mark.parametrize("few", [50, 9])
def test_what_a_list_of_all_candidates_holds_is_no_measure(tasks: StrictTasks, few: int):
    trained = tasks.trained.clone()
    trained[few:] = False
    kept = trained[tasks.query].all(1) if few > 10 else torch.ones(len(tasks.entity)).bool()
    query = tasks.query[kept] if few > 10 else torch.arange(3).expand(int(kept.sum()), -1)
    support = (torch.zeros_like(tasks.support[kept]) + few) if few < 10 else tasks.support[kept]
    small = tasks._replace(trained=trained, entity=tasks.entity[kept], query=query, support=support)
    scores = torch.rand(len(small.entity), len(trained))
    rows = evaluate(small, [scorer("any", scores)], SETTINGS, header=HEADER, clock=lambda: 0.0)
    assert all(row["recall@50"] is None for row in rows)
    undefined = [row["hr@10"] is None and row["coverage@10"] is None for row in rows]
    assert undefined == [few < 10] * len(rows)
    assert all(isinstance(row["ndcg@10"], float) for row in rows)
    text = render(rows)
    assert ("HR@3" in text) == (few > 10)
    assert ("HR and cov are left out: a list of 10 holds every candidate" in text) == (few < 10)


def test_a_constant_scorer_gets_the_floor_and_noise_is_called_chance(tasks: StrictTasks):
    shape = (len(tasks.entity), len(tasks.trained))
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(5))
    methods = [
        scorer("random", torch.zeros(shape), "floor"),
        scorer("constant", torch.full(shape, 3.0)),
        scorer("noise", noise),
        scorer("perfect", tasks.gains()),
    ]
    rows = evaluate(tasks, methods, SETTINGS, header=HEADER, clock=lambda: 0.0)
    level = {row["method"]: row["ndcg@10"] for row in rows if row["k"] == 3}
    assert level["constant"] == level["random"]
    assert level["perfect"] == pytest.approx(1)
    chance = {str(row["method"]) for row in rows if row["chance"]}
    assert chance == {"random", "constant", "noise"}
    assert "indistinguishable from chance" in render(rows)


def test_an_entity_in_two_parts_is_refused():
    with pytest.raises(DataError, match="one part of a split, got 'u7' in training and in test"):
        leaks.refuse_shared_entities({"training": ["u1", "u7"], "test": ["u7", "u9"]})


def test_a_query_before_its_support_is_refused():
    support = torch.tensor([[10, 20], [10, 30]])
    leaks.refuse_early_queries(["a", "b"], support, torch.tensor([20, 30]))
    with pytest.raises(DataError, match=r"must not begin before its support ends, got one of 'b'"):
        leaks.refuse_early_queries(["a", "b"], support, torch.tensor([[20, 40], [50, 29]]))


def test_training_at_or_after_the_cutoff_is_refused():
    with pytest.raises(DataError, match="before the cutoff 30, got 2 at or after it"):
        leaks.refuse_late_training(torch.tensor([10, 30, 40]), 30)


def test_tasks_of_training_entities_are_refused(store: TaskStore, tasks: StrictTasks):
    leaks.refuse_leaks_of_rankings(store, tasks)
    seen = store.histories(("train",)).task_id[:1]
    leaking = tasks._replace(entity=torch.cat([seen, tasks.entity[1:]]))
    with pytest.raises(DataError, match="must be in one part of a split"):
        leaks.refuse_leaks_of_rankings(store, leaking)


def test_a_query_that_begins_before_the_support_of_its_task_is_refused(
    store: TaskStore, tasks: StrictTasks
):
    late = tasks._replace(time=tasks.time + 10**15)
    with pytest.raises(DataError, match="must not begin before its support ends"):
        leaks.refuse_leaks_of_rankings(store, late)


def test_item_statistics_come_from_training_rows_only(store: TaskStore, tasks: StrictTasks):
    cutoff = store.manifest.cutoff
    assert cutoff is not None
    table = store.histories(("train", "valid"), cut=False)
    entity = torch.repeat_interleave(torch.arange(len(table.task_id)), table.lengths())
    early = table.time < cutoff
    assert not early.all()  # warm histories cross the cutoff
    pairs = torch.unique(entity[early] * len(tasks.share) + table.item[early])
    count = torch.bincount(pairs % len(tasks.share), minlength=len(tasks.share))
    met = len(torch.unique(entity[early]))
    assert torch.allclose(tasks.share, count.clamp(min=1) / met)


def test_candidates_are_the_whole_catalogue_and_not_a_sample(tasks: StrictTasks):
    # Sampled negatives reorder methods: all training items but the window are candidates.
    for k in SETTINGS.ks:
        assert (tasks.candidates(k).sum(1) == tasks.trained.sum() - max(SETTINGS.ks)).all()


def test_ids_above_two_to_the_24_stay_apart(tmp_path: Path):
    big = 2**24
    users = [u for u in range(big, big + 40) for _ in range(6)]
    items = [big + (u + i) % 9 for u in range(40) for i in range(6)]
    log = pl.DataFrame({"user": users, "item": items, "time": range(len(users))})
    log.write_parquet(tmp_path / "log.parquet")
    columns = {"entity": "user", "item": "item", "time": "time"}
    settings = Data.model_validate(
        {"path": str(tmp_path / "log.parquet"), "columns": columns, "buckets": 1}
    )
    build_store(read_log(settings), settings, tmp_path / "store")
    store = TaskStore.open(tmp_path / "store")
    assert store.entity_ids() == [str(u) for u in range(big, big + 40)]
    assert store.items.ids == [str(i) for i in range(big, big + 9)]


def test_choices_are_made_on_the_latest_training_entities_and_never_on_test_ones(
    store: TaskStore, tasks: StrictTasks
):
    judged = validation(EXPERIMENT, store).tasks.entity
    assert not torch.isin(judged, tasks.entity).any()
    valid, train = (store.histories((part,), cut=False) for part in ("valid", "train"))
    assert torch.isin(judged, valid.task_id).all()
    first = [table.time[table.offsets[:-1]] for table in (valid, train)]
    assert first[0].min() >= first[1].max()


def test_every_k_is_looked_at_by_itself(store: TaskStore, tasks: StrictTasks):
    recommender = Recommender(fit_histories(EXPERIMENT, store))
    assert list(validation(EXPERIMENT, store).by_k(recommender.predictor)) == [0, 1, 3]
    method = recommender_method(fitted(Popularity(), EXPERIMENT, store), tasks)
    rows = evaluate(tasks, [method], SETTINGS, header=HEADER, clock=lambda: 0.0)
    assert [(row["k"], row["n"]) for row in rows] == [(k, len(tasks.entity)) for k in (0, 1, 3)]
    for row in rows:
        low, high = row["ci95"]  # type: ignore[misc]
        assert low < row["ndcg@10"] < high  # type: ignore[operator]


def test_the_order_inside_one_time_can_be_shuffled_as_a_control():
    time = torch.tensor([1, 2, 2, 2, 5, 5])
    whole = histories_of([[0, 1, 2, 3], [4, 5]], n_items=6)
    orders = {
        tuple(shuffled_ties(whole, time, torch.Generator().manual_seed(seed)).item.tolist())
        for seed in range(40)
    }
    assert len(orders) == 6 * 2
    for order in orders:
        assert order[0] == 0
        assert sorted(order[1:4]) == [1, 2, 3]
        assert sorted(order[4:]) == [4, 5]


def test_rating_tasks_that_ask_what_training_or_the_support_knows_are_refused(ratings: TaskStore):
    settings = override(EXPERIMENT, {"evaluate.ratings.min_ratings": 11}).evaluate.ratings
    tasks = rule_tasks(ratings, settings, seed=0, force=True)[0]
    leaks.refuse_leaks_of_ratings(ratings, tasks)
    known = tasks._replace(query=tasks.support.item[:, :1].expand_as(tasks.query))
    with pytest.raises(DataError, match=r"a query row must not be in its support, got item '\d+'"):
        leaks.refuse_leaks_of_ratings(ratings, known)
    history = ratings.histories(("train",))
    name = ratings.entity_ids()[int(history.task_id[0])]
    trained = tasks._replace(
        entity=[name, *tasks.entity[1:]],
        query=torch.cat([history.item[:1].expand(1, tasks.query.shape[1]), tasks.query[1:]]),
    )
    with pytest.raises(DataError, match=r"must not be in training, got item .* \(user_cold"):
        leaks.refuse_leaks_of_ratings(ratings, trained)
