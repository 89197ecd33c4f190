"""Checkpoints on disk: write atomically, verify every byte, never unpickle.

Knows the files of the contract; does not know what trained them. A checkpoint appears whole or not
at all: it is written under a temporary name, fsynced, marked `COMMITTED` and renamed.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from metarec_ray.atomic import sync
from metarec_ray.core.batch import Params
from metarec_ray.errors import CheckpointError

log = logging.getLogger(__name__)
MODEL, OPTIMIZER, CATALOGUE = "model.safetensors", "optimizer.safetensors", "catalogue.parquet"
CONFIG, SCHEMA, METRICS, STATE = "config.json", "schema.json", "metrics.json", "state.json"
BUFFER = "buffer."  # what a buffer's name begins with, beside the parameters
MANIFEST, COMMITTED = "manifest.json", "COMMITTED"
REPLACED = ".replaced"
CHECKPOINTS = "checkpoints"
"""Folder of a run that holds its checkpoints."""


class Checkpoint(NamedTuple):
    """A checkpoint in memory.

    Attributes:
        model: meta-parameters and buffers.
        optimizer: the outer optimizer's moments.
        config: the resolved experiment.
        schema: features and vocabularies of the store it was trained on.
        metrics: the last metrics.
        state: the cursor: step, seed, `store_sha256`.
        catalogue: bytes of the Parquet file of items.

    """

    model: Params
    optimizer: Params
    config: dict[str, Any]
    schema: dict[str, Any]
    metrics: dict[str, Any]
    state: dict[str, Any]
    catalogue: bytes


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write `checkpoint` at `path`, whole or not at all; an older one of that name is replaced."""
    content = {
        MODEL: _tensors(checkpoint.model),
        OPTIMIZER: _tensors(checkpoint.optimizer),
        CONFIG: _json(checkpoint.config),
        SCHEMA: _json(checkpoint.schema),
        METRICS: _json(checkpoint.metrics),
        STATE: _json(checkpoint.state),
        CATALOGUE: checkpoint.catalogue,
    }
    content[MANIFEST] = _json(
        {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    )
    content[COMMITTED] = _commitment(content[MANIFEST])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    replaced = path.with_name(path.name + REPLACED)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, data in content.items():
            _write(temporary / name, data)
        sync(temporary)
        if path.exists():
            # Renamed, not deleted: there is a whole checkpoint of this step at every moment.
            shutil.rmtree(replaced, ignore_errors=True)
            path.rename(replaced)
        temporary.rename(path)
        sync(path.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not path.exists():
            with suppress(OSError):  # Under its other name it is still found by `latest`.
                replaced.rename(path)
        raise CheckpointError(f"a checkpoint must be writable, got {error} ({path})") from error
    shutil.rmtree(replaced, ignore_errors=True)


def save_step(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write `checkpoint` into a run's folder of checkpoints; return its path."""
    path = step_path(folder, checkpoint.state["step"])
    save(checkpoint, path)
    return path


def load(path: Path) -> Checkpoint:
    """Return the checkpoint at `path`.

    Raises:
        CheckpointError: a byte is not as written; names the file.

    """
    if not (path / COMMITTED).is_file():
        what = "was never committed" if path.is_dir() else "does not exist"
        raise CheckpointError(f"a checkpoint must be a committed directory, {path} {what}")
    manifest = _read(path / MANIFEST)
    if _read(path / COMMITTED) != _commitment(manifest):
        raise CheckpointError(
            f"{COMMITTED} of a checkpoint must hold the sha256 of its {MANIFEST}, one of them was "
            f"altered ({path})"
        )
    content: dict[str, bytes] = {}
    for name, expected in json.loads(manifest).items():
        content[name] = _read(path / name)
        if (found := hashlib.sha256(content[name]).hexdigest()) != expected:
            raise CheckpointError(
                "every file of a checkpoint must have the hash of its manifest, "
                f"{path / name} has sha256 {found[:12]} instead of {expected[:12]}"
            )
    return _parse(content, path)


def committed(folder: Path) -> list[Path]:
    """Return the committed checkpoints of a run's folder, oldest step first.

    One that a kill left half replaced stands just before its successor.
    """
    found = (path for path in folder.glob("step-*") if (path / COMMITTED).is_file())
    return sorted(found, key=lambda path: (path.stem, path.suffix != REPLACED))


def latest(folder: Path) -> tuple[Path, Checkpoint] | None:
    """Return the newest good checkpoint, None if there is none; log each damaged one it skips."""
    for path in reversed(committed(folder)):
        try:
            return path, load(path)
        except CheckpointError as error:
            log.warning("skipping a damaged checkpoint: %s", error)
    return None


def find(path: Path) -> tuple[Path, Checkpoint]:
    """Return the checkpoint at `path`, or the newest good one of the run at `path`.

    Raises:
        CheckpointError: there is none, or a byte is not as written.

    """
    if not (path / CHECKPOINTS).is_dir():
        return path, load(path)
    found = latest(path / CHECKPOINTS)
    if found is None:
        raise CheckpointError(f"a run must have a good checkpoint, {path / CHECKPOINTS} has none")
    return found


def step_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies.

    >>> step_path(Path("run"), 50).as_posix()
    'run/step-00000050'
    """
    return folder / f"step-{step:08d}"


def require_store(checkpoint: Checkpoint, path: Path, store_sha256: str, store: Path) -> None:
    """Raise a CheckpointError unless the checkpoint of `path` was trained on the store `store`."""
    if (trained_on := checkpoint.state["store_sha256"]) != store_sha256:
        raise CheckpointError(
            f"a checkpoint is judged on the store it was trained on, {path} has {trained_on[:12]}, "
            f"{store} is {store_sha256[:12]}"
        )


def require_parameters(model: Params, names: Iterable[str], path: Path | None = None) -> None:
    """Raise a CheckpointError, which names `path`, unless a model has the parameters `names`."""
    if missing := [name for name in names if name not in model]:
        raise CheckpointError(
            f"a model must have all parameters of its learner, {path or 'the checkpoint'} lacks "
            f"{', '.join(missing)}: it was trained by an older version, train it anew"
        )


def parameters_sha256(model: Params) -> str:
    """Return one hash over names, shapes and bytes of all parameters, in whatever order."""
    digest = hashlib.sha256()
    for name in sorted(model):
        tensor = model[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _parse(content: dict[str, bytes], path: Path) -> Checkpoint:
    try:
        return Checkpoint(
            model=load_tensors(content[MODEL]),
            optimizer=load_tensors(content[OPTIMIZER]),
            config=json.loads(content[CONFIG], object_pairs_hook=_said_once),
            schema=json.loads(content[SCHEMA]),
            metrics=json.loads(content[METRICS]),
            state=json.loads(content[STATE]),
            catalogue=content[CATALOGUE],
        )
    except (KeyError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"a checkpoint must hold every file of the contract, {path}: {error}"
        ) from error


def _said_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise ValueError(f"{CONFIG} has {twice} twice")
    return dict(pairs)


def _tensors(params: Params) -> bytes:
    return save_tensors({n: p.detach().cpu().contiguous() for n, p in params.items()})


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"every file of a checkpoint must be readable, got {error}"
        ) from error


def _commitment(manifest: bytes) -> bytes:
    return hashlib.sha256(manifest).hexdigest().encode() + b"\n"


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
