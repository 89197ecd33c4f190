"""Tensors that are made once and mapped."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from metarec_ray.data.files.memory_mapped import Allocate, in_memory, mapped
from metarec_ray.data.tasks.task_store import TaskStore

MADE = [torch.arange(7), torch.rand(3, 2), torch.zeros(4, 0), torch.zeros(0, dtype=torch.int64)]


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    pairs = list(zip(found, expected, strict=True))
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def making(tensors: list[Tensor]) -> Callable[[Allocate], None]:
    def make(allocate: Allocate) -> None:
        found = allocate([(tensor.dtype, tensor.shape) for tensor in tensors])
        for new, tensor in zip(found, tensors, strict=True):
            assert not new.any()
            new.copy_(tensor)

    return make


def test_what_is_made_once_is_mapped_afterwards(tmp_path: Path) -> None:
    times = 0

    def make(allocate: Allocate) -> None:
        nonlocal times
        times += 1
        making(MADE)(allocate)

    found = [mapped(tmp_path / "a" / "b", make) for _ in range(3)]
    assert all(same(one, MADE) for one in found)
    assert times == 1


def test_writing_changes_the_caller_s_pages_only(tmp_path: Path) -> None:
    first = mapped(tmp_path / "a", making(MADE))
    first[0][0] = 99
    assert same(mapped(tmp_path / "a", making(MADE)), MADE)


def test_files_are_whole_tensors_of_arrow(tmp_path: Path) -> None:
    mapped(tmp_path / "a", making(MADE))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "0.arrow",
        "1.arrow",
        "shapes.json",  # what is empty needs no file
    ]
    for n, expected in enumerate(MADE[:2]):
        with pa.memory_map(str(tmp_path / "a" / f"{n}.arrow")) as file:
            found = pa.ipc.read_tensor(file).to_numpy()
            assert torch.equal(torch.tensor(found), expected)


def test_what_is_published_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        assert not (tmp_path / "a").exists()
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", fsync)
    mapped(tmp_path / "a", making(MADE))
    assert sorted(synced) == sorted(path.name for path in (tmp_path / "a").iterdir())


def test_zeros_in_memory_have_the_same_shapes(tmp_path: Path) -> None:
    shapes = [(tensor.dtype, tensor.shape) for tensor in MADE]
    found = mapped(tmp_path / "a", lambda allocate: allocate(shapes))
    assert same(in_memory(shapes), found)


def test_what_was_cut_short_is_made_again(tmp_path: Path) -> None:
    mapped(tmp_path / "a", making(MADE))
    (tmp_path / "a" / "shapes.json").unlink()
    assert same(mapped(tmp_path / "a", making(MADE[:2])), MADE[:2])

    def fail(allocate: Allocate) -> None:
        making(MADE)(allocate)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        mapped(tmp_path / "b", fail)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["a"]


def _ask(folder: str, marks: str) -> None:
    def make(allocate: Allocate) -> None:
        (Path(marks) / str(time.monotonic_ns())).touch()
        time.sleep(0.3)
        making(MADE)(allocate)

    assert same(mapped(Path(folder), make), MADE)


def test_of_several_processes_one_makes_it(tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    context = multiprocessing.get_context("fork")
    asked = (str(tmp_path / "a"), str(tmp_path / "marks"))
    workers = [context.Process(target=_ask, args=asked) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(list((tmp_path / "marks").iterdir())) == 1


@pytest.mark.parametrize("cut", [True, False])
def test_a_store_s_histories_are_those_of_its_files(
    synthetic_store: Path, tmp_path: Path, cut: bool
) -> None:
    plain, cached = (TaskStore.open(synthetic_store, cache=c) for c in (None, tmp_path / "cache"))
    for parts in (("train",), ("train", "valid"), ("test",)):
        expected = plain.histories(parts, cut=cut)
        for found in (cached.histories(parts, cut=cut), cached.histories(parts, cut=cut)):
            flat = [[*t[:5], *t.context, *t.users.features] for t in (found, expected)]
            assert same(*flat)
    some = torch.arange(len(plain.items.ids)) % 2 == 0
    restricted = [store.restricted(some).histories() for store in (plain, cached)]
    assert torch.equal(restricted[0].item, restricted[1].item)
    assert len(restricted[0].item) < len(plain.histories().item)


def test_a_cache_goes_with_its_version(tmp_path: Path) -> None:
    from metarec_ray.data.log.reading import read_log
    from metarec_ray.data.settings import Data, Synthetic
    from metarec_ray.data.store.writing import build_store

    store = tmp_path / "store"
    cache = store / ".cache"
    kept: list[str] = []

    def build(seed: int) -> None:
        asked = Data(seed=seed, buckets=1, synthetic=Synthetic(users=60, items=30), versions=2)
        kept.append(build_store(read_log(asked), asked, store).key())

    def make(allocate: Allocate) -> None:
        build(1)
        making([torch.arange(3)])(allocate)

    build(0)
    # Published while another process reads the version before: what it makes has a place to go.
    assert mapped(cache / kept[0] / "train", make)[0].tolist() == [0, 1, 2]
    TaskStore.open(store, cache=cache).histories()
    assert {path.name for path in cache.iterdir()} == set(kept)
    build(2)
    assert [path.name for path in cache.iterdir()] == [kept[1]]
