"""A run is written by the group that began last."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from metarec_ray.checkpoint import Checkpoint, committed, save_step
from metarec_ray.config.running import Keep
from metarec_ray.errors import RunFailed
from metarec_ray.training.run_folder.fence import Fence
from metarec_ray.training.run_folder.retention import retain
from metarec_ray.training.run_folder.saver import Saver


def at(step: int) -> Checkpoint:
    state = {"step": step, "seed": 0, "store_sha256": ""}
    return Checkpoint({"weight": torch.zeros(2)}, {}, {}, {}, {}, state, b"")


def test_the_group_that_began_last_writes_and_the_one_before_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    cut_off = Fence(tmp_path)
    with Saver(folder, Keep(), allow=cut_off.require) as before:
        before.save(at(1))
        new = Fence(tmp_path)
        with Saver(folder, Keep(), allow=new.require) as after:
            with pytest.raises(RunFailed, match=r"began last, another one has begun since"):
                before.save(at(2))
            after.save(at(3))
    assert [path.name for path in committed(folder)] == ["step-00000001", "step-00000003"]
    with pytest.raises(RunFailed, match="began last"):
        cut_off.require()
    new.require()


def test_a_group_that_is_overtaken_while_it_writes_commits_and_removes_nothing(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "checkpoints"
    cut_off, asked = Fence(tmp_path), []

    def overtaken_after(calls: int) -> None:
        asked.append(calls)
        if len(asked) == calls:
            Fence(tmp_path)
            (folder / ".step-00000009.new-1.tmp").mkdir(parents=True)
        cut_off.require()

    for calls, left in ((2, []), (3, [1])):
        saver = Saver(folder, Keep(), allow=partial(overtaken_after, calls))
        with saver, pytest.raises(RunFailed, match="began last"):
            saver.save(at(1))
        found = sorted(path.name for path in folder.iterdir())
        assert found == [".step-00000009.new-1.tmp", *(f"step-{step:08d}" for step in left)]
        shutil.rmtree(folder)
        cut_off = Fence(tmp_path)
        asked.clear()


def test_a_folder_that_is_gone_may_not_be_written(tmp_path: Path) -> None:
    fence = Fence(tmp_path)
    (tmp_path / "generation").unlink()
    with pytest.raises(RunFailed, match="must be able to read its folder"):
        fence.require()


def test_what_a_kill_left_half_written_goes(tmp_path: Path) -> None:
    written = save_step(at(1), tmp_path)
    (tmp_path / ".step-00000002.another-machine-77.tmp").mkdir()
    retain(tmp_path, Keep(), written=written)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
