"""Checkpoints on disk: write atomically, verify every byte, never unpickle.

Knows the files of the contract; does not know what trained them. A checkpoint appears whole or not
at all: it is written under a temporary name, fsynced, marked `COMMITTED` and renamed. Writing needs
no memory beside the tensors, reading none but for them.
"""

import hashlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from metarec_ray.atomic import sync
from metarec_ray.committed_files import COMMITTED, as_json, commit, read, verify, write
from metarec_ray.core.batch import Params
from metarec_ray.errors import CheckpointError, RunFailed

log = logging.getLogger(__name__)
MODEL, OPTIMIZER, CATALOGUE = "model.safetensors", "optimizer.safetensors", "catalogue.parquet"
CONFIG, SCHEMA, METRICS, STATE = "config.json", "schema.json", "metrics.json", "state.json"
BUFFER = "buffer."  # what a buffer's name begins with, beside the parameters
REPLACED, TEMPORARY = ".replaced", ".tmp"
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


def save(checkpoint: Checkpoint, path: Path, *, allow: Callable[[], None] = lambda: None) -> None:
    """Write `checkpoint` at `path`, whole or not at all; an older one of that name is replaced.

    `allow` is called when all is written, just before it gets its name, and raises RunFailed if it
    must not.
    """
    described = _described(checkpoint)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}{TEMPORARY}")
    replaced = path.with_name(path.name + REPLACED)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _save_tensors(checkpoint.model, temporary / MODEL)
        _save_tensors(checkpoint.optimizer, temporary / OPTIMIZER)
        for name, data in described.items():
            write(temporary / name, data)
        commit(temporary, (MODEL, OPTIMIZER, *described))
        sync(temporary)
        allow()
        if path.exists():
            # Renamed, not deleted: there is a whole checkpoint of this step at every moment.
            shutil.rmtree(replaced, ignore_errors=True)
            path.rename(replaced)
        temporary.rename(path)
        sync(path.parent)
    except RunFailed:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not path.exists():
            with suppress(OSError):  # Under its other name it is still found by `latest`.
                replaced.rename(path)
        raise CheckpointError(f"a checkpoint must be writable, got {error} ({path})") from error
    shutil.rmtree(replaced, ignore_errors=True)


def save_step(
    checkpoint: Checkpoint, folder: Path, *, allow: Callable[[], None] = lambda: None
) -> Path:
    """Write `checkpoint` into a run's folder of checkpoints, as `save` does; return its path."""
    path = step_path(folder, checkpoint.state["step"])
    save(checkpoint, path, allow=allow)
    return path


def load(path: Path) -> Checkpoint:
    """Return the checkpoint at `path`.

    Raises:
        CheckpointError: a byte is not as written; names the file.

    """
    verify(path)
    return _parse(path)


def describe(path: Path) -> Checkpoint:
    """Return the checkpoint at `path` without tensors and catalogue; all bytes are verified.

    Raises:
        CheckpointError: a byte is not as written; names the file.

    """
    verify(path)
    return _parse(path, whole=False)


class StoredParameters(Mapping[str, Tensor]):
    """The parameters of the checkpoint at a path, each read when it is asked for."""

    def __init__(self, path: Path):
        self._file = safe_open(path / MODEL, framework="pt")
        self._names = frozenset(self._file.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def committed(folder: Path) -> list[Path]:
    """Return the committed checkpoints of a run's folder, oldest step first.

    One that a kill left half replaced stands just before its successor.
    """
    return [path for path in _written(folder) if (path / COMMITTED).is_file()]


def latest(folder: Path) -> tuple[Path, Checkpoint] | None:
    """Return the newest good checkpoint, None if there is none; log each damaged one it skips.

    One that has lost the mark that commits it is damaged, too.
    """
    return _newest(folder, load)


def latest_described(folder: Path) -> tuple[Path, Checkpoint] | None:
    """Return what `latest` does, without tensors and catalogue."""
    return _newest(folder, describe)


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


def require_parameters(
    model: Mapping[str, Tensor], names: Iterable[str], path: Path | None = None
) -> None:
    """Raise a CheckpointError, which names `path`, unless a model has the parameters `names`."""
    if missing := [name for name in names if name not in model]:
        raise CheckpointError(
            f"a model must have all parameters of its learner, {path or 'the checkpoint'} lacks "
            f"{', '.join(missing)}: it was trained by an older version, train it anew"
        )


def parameters_sha256(model: Mapping[str, Tensor]) -> str:
    """Return one hash over names, shapes and bytes of all parameters, in whatever order."""
    digest = hashlib.sha256()
    for name in sorted(model):
        tensor = model[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _written(folder: Path) -> list[Path]:
    found = (path for path in folder.glob("step-*") if path.is_dir())
    return sorted(found, key=lambda path: (path.stem, path.suffix != REPLACED))


def _newest(folder: Path, read: Callable[[Path], Checkpoint]) -> tuple[Path, Checkpoint] | None:
    # One without its mark was damaged later: none is renamed to such a name before it has it.
    for path in reversed(_written(folder)):
        try:
            return path, read(path)
        except CheckpointError as error:
            log.warning("skipping a damaged checkpoint: %s", error)
    return None


def _parse(path: Path, *, whole: bool = True) -> Checkpoint:
    try:
        return Checkpoint(
            model=_tensors(path / MODEL) if whole else {},
            optimizer=_tensors(path / OPTIMIZER) if whole else {},
            config=json.loads(read(path / CONFIG), object_pairs_hook=_said_once),
            schema=json.loads(read(path / SCHEMA)),
            metrics=json.loads(read(path / METRICS)),
            state=json.loads(read(path / STATE)),
            catalogue=read(path / CATALOGUE) if whole else b"",
        )
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"a checkpoint must hold every file of the contract, {path}: {error}"
        ) from error


def _said_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise ValueError(f"{CONFIG} has {twice} twice")
    return dict(pairs)


def _tensors(path: Path) -> Params:
    # Copied: what is mapped from a file that somebody truncates ends the process.
    return {name: value.clone() for name, value in load_file(path).items()}


def _described(checkpoint: Checkpoint) -> dict[str, bytes]:
    return {
        CONFIG: as_json(checkpoint.config),
        SCHEMA: as_json(checkpoint.schema),
        METRICS: as_json(checkpoint.metrics),
        STATE: as_json(checkpoint.state),
        CATALOGUE: checkpoint.catalogue,
    }


def _save_tensors(params: Params, path: Path) -> None:
    save_file({name: value.detach().cpu().contiguous() for name, value in params.items()}, path)
    sync(path)
