"""Tensors on a local disk, made once and mapped into memory: processes of a node share the pages.

Files are Arrow IPC tensors. Knows no store; a folder may be deleted at any time when nobody reads.
"""

import fcntl
import json
import mmap
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

SHAPES = "shapes.json"


def mapped(folder: Path, make: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
    """Return what `make` makes (int64 or float32), mapped from `folder`.

    If nothing is there, one process makes it, others wait; it is published whole. Writing to what
    is returned changes the caller's copy of a page, never the file.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not (folder / SHAPES).is_file():
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / SHAPES).is_file():
                _publish(folder, make())
    shapes = json.loads((folder / SHAPES).read_text("utf-8"))
    return [_map(folder / f"{n}.arrow", *shape) for n, shape in enumerate(shapes)]


def _publish(folder: Path, tensors: Sequence[Tensor]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for n, tensor in enumerate(tensors):
            if tensor.numel():
                values = pa.Tensor.from_numpy(tensor.contiguous().numpy())
                with pa.OSFile(str(temporary / f"{n}.arrow"), "wb") as file:
                    pa.ipc.write_tensor(values, file)
        shapes = [[str(t.dtype).removeprefix("torch."), list(t.shape)] for t in tensors]
        (temporary / SHAPES).write_text(json.dumps(shapes), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # what holds no shapes is no whole one
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _map(path: Path, dtype: str, shape: list[int]) -> Tensor:
    kind = getattr(torch, dtype)
    if 0 in shape:
        return torch.zeros(shape, dtype=kind)
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    whole = pa.py_buffer(pages)
    values = pa.ipc.read_tensor(pa.BufferReader(whole)).to_numpy()
    at = values.ctypes.data - whole.address
    return torch.from_numpy(np.frombuffer(pages, values.dtype, values.size, at).reshape(shape))
