"""Random damage to a checkpoint: every one is found, and the one before it is used.

`make test-cases` tries ten thousand; METAREC_CASES sets the number.
"""

import logging
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from metarec_ray.checkpoint import Checkpoint, describe, latest, load, save, step_path
from metarec_ray.errors import CheckpointError

CASES = int(os.environ.get("METAREC_CASES", "200"))
Damage = Callable[[Path, Path, random.Random], None]


def content(step: int) -> Checkpoint:
    source = torch.Generator().manual_seed(step)
    return Checkpoint(
        model={"head": torch.randn(4, 3, generator=source), "bias": torch.tensor(float(step))},
        optimizer={"m.head": torch.randn(4, 3, generator=source)},
        config={"run": {"seed": step}, "model": {"dim": 16}},
        schema={"feedback": "implicit", "features": [step]},
        metrics={"query_loss": 1.25 / step},
        state={"step": step, "seed": 0, "store_sha256": f"{step:064x}"},
        catalogue=b"PAR1" + bytes([step]) * 64,
    )


def flip_a_bit(path: Path, other: Path, source: random.Random) -> None:
    del other
    data = bytearray(path.read_bytes())
    data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    path.write_bytes(data)


def zero_a_page(path: Path, other: Path, source: random.Random) -> None:
    """A block that was never written: what a crash leaves of a file that was not synced."""
    data = bytearray(path.read_bytes())
    place = source.randrange(len(data))
    data[place:] = bytes(len(data) - place)
    path.write_bytes(data)
    del other


def truncate(path: Path, other: Path, source: random.Random) -> None:
    del other
    os.truncate(path, source.randrange(path.stat().st_size))


def empty(path: Path, other: Path, source: random.Random) -> None:
    del other, source
    path.write_bytes(b"")


def append(path: Path, other: Path, source: random.Random) -> None:
    del other
    path.write_bytes(path.read_bytes() + source.randbytes(source.randint(1, 9)))


def delete(path: Path, other: Path, source: random.Random) -> None:
    del other, source
    path.unlink()


def become_a_folder(path: Path, other: Path, source: random.Random) -> None:
    del other, source
    path.unlink()
    path.mkdir()


def swap_two(path: Path, other: Path, source: random.Random) -> None:
    """Two files of the checkpoint change places."""
    del other
    partner = source.choice([one for one in sorted(path.parent.iterdir()) if one != path])
    mine, theirs = path.read_bytes(), partner.read_bytes()
    path.write_bytes(theirs)
    partner.write_bytes(mine)


def come_from_another(path: Path, other: Path, source: random.Random) -> None:
    """A file is that of the checkpoint before."""
    del source
    shutil.copyfile(other / path.name, path)


def manifest_of_another(path: Path, other: Path, source: random.Random) -> None:
    """What proves the files is that of the checkpoint before, whole."""
    del source
    for name in ("manifest.json", "COMMITTED"):
        shutil.copyfile(other / name, path.parent / name)


def manifest_twice(path: Path, other: Path, source: random.Random) -> None:
    """The manifest is there twice: one behind the other, or in the place of another file."""
    text = (path.parent / "manifest.json").read_bytes()
    if path.name == "manifest.json" or source.random() < 0.5:
        (path.parent / "manifest.json").write_bytes(text + text)
    else:
        path.write_bytes(text)
    del other


KINDS: list[Damage] = [
    flip_a_bit,
    zero_a_page,
    truncate,
    empty,
    append,
    delete,
    become_a_folder,
    swap_two,
    come_from_another,
    manifest_of_another,
    manifest_twice,
]


def bytes_of(folder: Path) -> dict[str, bytes | None]:
    return {p.name: p.read_bytes() if p.is_file() else None for p in folder.iterdir()}


def damaged(folder: Path, whole: Path, seed: int) -> str:
    """Damage the checkpoint of step 2 by chance; return how."""
    source = random.Random(seed)
    target, before = step_path(folder, 2), bytes_of(step_path(whole, 2))
    while True:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(step_path(whole, 2), target)
        kind = source.choice(KINDS)
        path = target / source.choice(sorted(before))
        kind(path, step_path(whole, 1), source)
        if bytes_of(target) != before:  # a page that was zero, a file that both have
            return f"seed {seed}: {kind.__name__} {path.name}"


def test_every_random_damage_is_found_and_the_one_before_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    for step in (1, 2):
        save(content(step), step_path(whole, step))
    shutil.copytree(step_path(whole, 1), step_path(folder, 1))
    taken = []
    for seed in range(CASES):
        what = damaged(folder, whole, seed)
        for read in (load, describe):
            with suppress(CheckpointError):
                read(step_path(folder, 2))
                taken.append(f"{what}, {read.__name__}")
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = latest(folder)
        if found is None or found[0] != step_path(folder, 1) or found[1].state["step"] != 1:
            taken.append(f"{what}, latest")
        assert "skipping a damaged checkpoint" in caplog.text, what
        assert "step-00000002" in caplog.text, what
    assert taken == []


def test_the_damage_is_of_every_kind_and_every_file(tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    for step in (1, 2):
        save(content(step), step_path(whole, step))
    said = [damaged(folder, whole, seed).split(": ")[1].split() for seed in range(200)]
    assert {kind for kind, _ in said} == {kind.__name__ for kind in KINDS}
    assert {name for _, name in said} == set(bytes_of(step_path(whole, 2)))
