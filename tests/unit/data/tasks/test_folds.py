"""Folds of a store: what one leaves out, and that together they are everything."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from metarec_ray.data.tasks.folds import Fold, fold_of_entities
from metarec_ray.data.tasks.task_store import TaskStore


@pytest.mark.parametrize(("entities", "folds"), [(300, 3), (301, 3), (7, 7), (2, 5), (0, 2)])
def test_folds_are_of_like_size(entities: int, folds: int) -> None:
    found = fold_of_entities(entities, folds)
    assert found.dtype == torch.int64
    sizes = [found.tolist().count(fold) for fold in range(folds)]
    assert sum(sizes) == entities
    assert max(sizes) - min(sizes) <= 1


def test_folds_are_the_same_every_time_and_no_run_of_task_ids() -> None:
    found = fold_of_entities(300, 3)
    torch.manual_seed(1)
    assert torch.equal(fold_of_entities(300, 3), found)
    # Task ids are in the order of time: each fold must have early and late entities.
    for fold in range(3):
        assert 20 < int((found[:100] == fold).sum()) < 47
    assert not torch.equal(found, torch.arange(300) % 3)


@pytest.mark.parametrize("parts", [("train",), ("train", "valid"), ("train", "valid", "test")])
@pytest.mark.parametrize("cut", [True, False])
def test_what_folds_leave_out_makes_up_the_whole(
    synthetic_store: Path, parts: tuple[str, ...], cut: bool
) -> None:
    store = TaskStore.open(synthetic_store)
    whole = store.histories(parts, cut=cut)
    out = list[int]()
    for fold in range(3):
        kept = store.without(Fold(fold=fold, folds=3)).histories(parts, cut=cut)
        left = set(whole.task_id.tolist()) - set(kept.task_id.tolist())
        assert all(int(fold_of_entities(store.manifest.tasks, 3)[task]) == fold for task in left)
        out += sorted(left)
        right = whole.take(torch.isin(whole.task_id, kept.task_id).nonzero().flatten())
        for column, other in zip(kept[:5], right[:5], strict=True):
            assert torch.equal(column, other)
        assert torch.equal(kept.users.features.tokens, right.users.features.tokens)
        assert (kept.cutoff, kept.n_items) == (whole.cutoff, whole.n_items)
    assert sorted(out) == whole.task_id.tolist()


def test_without_a_fold_everything_is_there(synthetic_store: Path) -> None:
    store = TaskStore.open(synthetic_store)
    whole = store.histories(("train",))
    view = store.without(Fold(fold=1, folds=2))
    assert view.histories(("train",)).n_entities < whole.n_entities
    for one in (store, store.without(None), view.without(None)):
        assert torch.equal(one.histories(("train",)).item, whole.item)


def test_ids_and_features_are_those_of_the_whole_store(synthetic_store: Path) -> None:
    store = TaskStore.open(synthetic_store)
    view = store.without(Fold(fold=0, folds=2))
    assert view.entity_ids() == store.entity_ids()
    assert view.items.ids == store.items.ids
    assert view.manifest == store.manifest
    met = view.histories(("train", "valid")).met_items()
    assert torch.equal(view.trained_items(), met)


def test_cached_and_restricted_histories_leave_the_fold_out_too(
    synthetic_store: Path, tmp_path: Path
) -> None:
    fold, plain = Fold(fold=2, folds=3), TaskStore.open(synthetic_store)
    right = plain.without(fold).histories(("train",))
    cached = TaskStore.open(synthetic_store, cache=tmp_path)
    for _ in range(2):
        assert torch.equal(cached.without(fold).histories(("train",)).item, right.item)
    assert cached.histories(("train",)).n_entities == plain.histories(("train",)).n_entities
    some = torch.arange(len(plain.items.ids)) % 2 == 0
    one = plain.restricted(some).without(fold).histories(("train",))
    other = plain.without(fold).restricted(some).histories(("train",))
    assert one.task_id.tolist() == other.task_id.tolist() == right.task_id.tolist()
    assert one.item.tolist() == other.item.tolist() == right.item[some[right.item]].tolist()


@pytest.mark.parametrize(("fold", "folds"), [(3, 3), (9, 2)])
def test_a_fold_that_there_is_not_is_refused(fold: int, folds: int) -> None:
    with pytest.raises(ValidationError, match=f"fold must be < folds {folds}, got {fold}"):
        Fold(fold=fold, folds=folds)


@pytest.mark.parametrize(("fold", "folds"), [(0, 1), (-1, 3), (0, 0), (0, 1001)])
def test_folds_are_two_or_more_and_counted_from_zero(fold: int, folds: int) -> None:
    with pytest.raises(ValidationError):
        Fold(fold=fold, folds=folds)
