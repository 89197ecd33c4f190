import hashlib
import json
import logging
import math
import random
import shutil
from pathlib import Path

import pytest
import torch

import metarec_ray.checkpoint
from metarec_ray.checkpoint import (
    Checkpoint,
    StoredParameters,
    committed,
    describe,
    find,
    latest,
    latest_described,
    load,
    parameters_sha256,
    save,
    step_path,
)
from metarec_ray.errors import CheckpointError
from tests.unit.failing_disk import FAULTS, NOTHING, Killed, failing

FILES = [
    "COMMITTED",
    "catalogue.parquet",
    "config.json",
    "manifest.json",
    "metrics.json",
    "model.safetensors",
    "optimizer.safetensors",
    "schema.json",
    "state.json",
]


def content(step: int) -> Checkpoint:
    return Checkpoint(
        model={
            "head.out.bias": torch.tensor(float(step)),
            "item.ids": torch.arange(6.0).view(3, 2),
        },
        optimizer={"m.head.out.bias": torch.tensor(0.5)},
        config={"run": {"seed": step}},
        schema={"feedback": "implicit"},
        metrics={"query_loss": 1.25},
        state={"step": step},
        catalogue=b"PAR1 as bytes",
    )


def saved(folder: Path, step: int = 1) -> Path:
    path = step_path(folder, step)
    save(content(step), path)
    return path


def assert_holds(found: Checkpoint, step: int) -> None:
    expected = content(step)
    for one, other in ((found.model, expected.model), (found.optimizer, expected.optimizer)):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert found[2:] == expected[2:]


def test_a_checkpoint_survives_the_disk(tmp_path: Path) -> None:
    path = saved(tmp_path, 7)
    assert sorted(child.name for child in path.iterdir()) == FILES
    assert_holds(load(path), 7)
    assert [child.name for child in tmp_path.iterdir()] == ["step-00000007"]


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "a"), saved(tmp_path / "b")
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES)


def damage(path: Path, kind: str, source: random.Random) -> None:
    content = bytearray(path.read_bytes())
    place = source.randrange(len(content))
    if kind == "flip":
        content[place] ^= 1 << source.randrange(8)
    elif kind == "replace":
        content[place] = (content[place] + source.randrange(1, 256)) % 256
    elif kind == "truncate":
        del content[place:]
    elif kind == "append":
        content += b"\n"
    if kind == "delete":
        path.unlink()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["flip", "replace", "truncate", "append", "delete"])
def test_every_damage_is_detected(tmp_path: Path, name: str, kind: str) -> None:
    source = random.Random(f"{name} {kind}")
    path = saved(tmp_path)
    whole = (path / name).read_bytes()
    for _ in range(12 if kind in ("flip", "replace", "truncate") else 1):
        damage(path / name, kind, source)
        with pytest.raises(CheckpointError, match=r"checkpoint must") as caught:
            load(path)
        assert name in str(caught.value) or name == "COMMITTED" or name == "manifest.json"
        assert str(path) in str(caught.value)
        (path / name).write_bytes(whole)
    load(path)


def test_files_of_two_checkpoints_that_are_swapped_are_detected(tmp_path: Path) -> None:
    one, other = saved(tmp_path, 1), saved(tmp_path, 2)
    for name in FILES:
        if (one / name).read_bytes() == (other / name).read_bytes():
            continue
        (one / name).rename(tmp_path / "aside")
        (other / name).rename(one / name)
        (tmp_path / "aside").rename(other / name)
        assert latest(tmp_path) is None
        (one / name).rename(tmp_path / "aside")
        (other / name).rename(one / name)
        (tmp_path / "aside").rename(other / name)
    found = latest(tmp_path)
    assert found is not None
    assert_holds(found[1], 2)


def test_a_description_has_all_but_tensors_and_catalogue_and_verifies_these_too(
    tmp_path: Path,
) -> None:
    path = saved(tmp_path, 3)
    described, whole = describe(path), load(path)
    assert described == whole._replace(model={}, optimizer={}, catalogue=b"")
    damage(path / "optimizer.safetensors", "flip", random.Random(0))
    with pytest.raises(CheckpointError, match=r"must have the hash of its manifest"):
        describe(path)
    assert latest_described(tmp_path) is None


def test_stored_parameters_are_those_that_were_saved(tmp_path: Path) -> None:
    stored, model = StoredParameters(saved(tmp_path, 3)), content(3).model
    assert dict(stored).keys() == model.keys()
    assert len(stored) == len(model)
    assert parameters_sha256(stored) == parameters_sha256(model)
    assert stored.get("nothing") is None


def test_what_json_does_not_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"JSON compliant"):
        save(content(1)._replace(metrics={"query_loss": math.nan}), tmp_path / "step-1")
    assert not list(tmp_path.iterdir())


def test_the_byte_of_the_manifest_that_json_would_not_miss_counts_too(tmp_path: Path) -> None:
    path = saved(tmp_path) / "manifest.json"
    path.write_bytes(path.read_bytes().rstrip())
    json.loads(path.read_bytes())
    with pytest.raises(CheckpointError, match=r"COMMITTED .* must hold the sha256 of its manifest"):
        load(path.parent)


def test_the_latest_falls_back_to_the_last_good_one_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (50, 100, 150):
        saved(tmp_path, step)
    damage(step_path(tmp_path, 150) / "model.safetensors", "flip", random.Random(0))
    (step_path(tmp_path, 100) / "config.json").unlink()
    with caplog.at_level(logging.WARNING):
        found = latest(tmp_path)
    assert found is not None
    assert found[0] == step_path(tmp_path, 50)
    assert_holds(found[1], 50)
    assert len(caplog.records) == 2
    assert "skipping a damaged checkpoint" in caplog.text
    assert "step-00000150/model.safetensors" in caplog.text
    assert "step-00000100/config.json" in caplog.text


def test_a_folder_without_a_good_checkpoint_has_no_latest(tmp_path: Path) -> None:
    assert latest(tmp_path / "none") is None
    saved(tmp_path)
    (step_path(tmp_path, 1) / "state.json").write_bytes(b"{}\n")
    assert latest(tmp_path) is None


def test_steps_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    for step in (1000, 5, 90):
        saved(tmp_path, step)
    assert [path.name for path in committed(tmp_path)] == [
        "step-00000005",
        "step-00000090",
        "step-00001000",
    ]


def test_what_was_never_committed_is_no_checkpoint(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (path / "COMMITTED").unlink()
    with pytest.raises(CheckpointError, match=r"a committed directory, .* was never committed"):
        load(path)
    with pytest.raises(CheckpointError, match=r"a committed directory, .* does not exist"):
        load(tmp_path / "none")
    assert committed(tmp_path) == []


def calls_of_a_save(monkeypatch: pytest.MonkeyPatch, folder: Path, *, again: bool) -> int:
    saved(folder, 1)
    target = step_path(folder, 1 if again else 2)
    with failing(monkeypatch, -1, NOTHING, TENSORS) as disk:
        save(content(2), target)
    shutil.rmtree(folder)
    return disk.calls


@pytest.mark.parametrize("again", [False, True], ids=["a new step", "a step that exists"])
def test_a_kill_at_any_call_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    total = calls_of_a_save(monkeypatch, tmp_path / "count", again=again)
    assert total >= 9 * 4 + 2  # each file is opened, written, closed, synced; a mkdir, a rename
    seen = set()
    for at in range(total):
        folder = tmp_path / str(at)
        saved(folder, 1)
        target = step_path(folder, 1 if again else 2)
        with failing(monkeypatch, at, FAULTS["a kill"], TENSORS), pytest.raises(Killed):
            save(content(2), target)
        found = latest(folder)
        assert found is not None
        assert_holds(found[1], found[1].state["step"])
        seen.add(found[1].state["step"])
        # And the next save, of a process that lives, succeeds.
        save(content(3), target)
        after = latest(folder)
        assert after is not None
        assert_holds(after[1], 3)
    assert seen == {1, 2}


TENSORS = ((metarec_ray.checkpoint, "save_file", 1),)


def outcome_of_a_save(path: Path) -> str:
    try:
        save(content(2), path)
    except CheckpointError as error:
        return str(error)
    return "saved"


@pytest.mark.parametrize("again", [False, True], ids=["a new step", "a step that exists"])
@pytest.mark.parametrize("kind", ["one error", "a full disk"])
def test_an_error_of_the_disk_at_any_call_is_one_sentence_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool, kind: str
) -> None:
    total, outcomes = calls_of_a_save(monkeypatch, tmp_path / "count", again=again), set()
    for at in range(total):
        folder = tmp_path / str(at)
        saved(folder, 1)
        with failing(monkeypatch, at, FAULTS[kind], TENSORS):
            outcome = outcome_of_a_save(step_path(folder, 1 if again else 2))
        found = latest(folder)
        assert found is not None
        assert_holds(found[1], found[1].state["step"])
        assert outcome != "saved" or found[1].state["step"] == 2
        outcomes.add(outcome.partition(", got [")[0])
    assert outcomes <= {"saved", "a checkpoint must be writable"}


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"a checkpoint must be writable, got .*step-0+1"):
        saved(tmp_path / "file")


def test_the_hash_of_parameters_sees_names_shapes_types_and_values() -> None:
    base = {"a": torch.zeros(4), "b": torch.ones(2)}
    assert parameters_sha256(base) == parameters_sha256(dict(reversed(base.items())))
    others = [
        {"a": torch.zeros(4), "c": torch.ones(2)},
        {"a": torch.zeros(2, 2), "b": torch.ones(2)},
        {"a": torch.zeros(4, dtype=torch.int32), "b": torch.ones(2)},
        {"a": torch.zeros(4), "b": torch.tensor([1.0, 1.0000001])},
    ]
    assert len({parameters_sha256(params) for params in [base, *others]}) == 5


def test_a_configuration_that_says_a_key_twice_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (path / "config.json").write_text('{"run": {"seed": 1, "seed": 2}}')
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["config.json"] = hashlib.sha256((path / "config.json").read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    commitment = hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
    (path / "COMMITTED").write_text(commitment + "\n")
    with pytest.raises(CheckpointError, match=r"config.json has seed twice"):
        load(path)


def test_a_run_is_found_by_its_newest_checkpoint_and_a_checkpoint_by_itself(tmp_path: Path) -> None:
    for step in (1, 2):
        path = saved(tmp_path / "checkpoints", step)
    assert find(tmp_path)[0] == path
    first = step_path(tmp_path / "checkpoints", 1)
    found, checkpoint = find(first)
    assert (found, checkpoint.state["step"]) == (first, 1)


def test_what_is_neither_a_run_nor_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none does not exist"):
        find(tmp_path / "none")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match=r"a run must have a good checkpoint, .* has none"):
        find(tmp_path)
