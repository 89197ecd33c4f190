"""Tensors on a local disk, made once and memory-mapped: the processes of a node share the pages.

Files are Arrow IPC tensors. A folder of them is a cache: it may be deleted when no process uses it.
Does not know what tensors hold.
"""

import json
import math
import mmap
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from metarec_ray.atomic import lock, sync

SHAPES = "shapes.json"

Shape: TypeAlias = "tuple[torch.dtype, Sequence[int]]"
"""Type of a tensor, int64 or float32, and its size along each axis."""
Allocate: TypeAlias = Callable[[Sequence[Shape]], list[Tensor]]
"""Return a tensor of zeros for each shape, to be filled; called once."""


def in_memory(shapes: Sequence[Shape]) -> list[Tensor]:
    """Return zeros of these shapes in the memory of this process."""
    return [torch.zeros(tuple(shape), dtype=dtype) for dtype, shape in shapes]


def mapped(folder: Path, make: Callable[[Allocate], object]) -> list[Tensor]:
    """Return the tensors of `folder`, memory-mapped; if there are none, `make` makes them first.

    One process makes them, the others wait; the folder appears when it is complete. `make` writes
    to mapped files: the tensors may be larger than memory. Writing to the returned tensors changes
    a private copy of the page, never the file.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not (folder / SHAPES).is_file():
        with folder.with_name(f"{folder.name}.lock").open("w") as stream:
            lock(stream, wait=True)
            if not (folder / SHAPES).is_file():
                _publish(folder, make)
    return _mapped(folder, mmap.ACCESS_COPY)


def _publish(folder: Path, make: Callable[[Allocate], object]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        make(partial(_on_disk, temporary))
        assert (temporary / SHAPES).is_file(), "`make` must allocate"
        for path in temporary.iterdir():
            sync(path)  # the cache is not verified again, so a crash must not leave half of it
        shutil.rmtree(folder, ignore_errors=True)  # incomplete: it has no file of shapes
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _on_disk(folder: Path, shapes: Sequence[Shape]) -> list[Tensor]:
    """Return zeros of these shapes, mapped to new files in `folder`."""
    named = [(str(dtype).removeprefix("torch."), list(shape)) for dtype, shape in shapes]
    for n, (dtype, shape) in enumerate(named):
        if math.prod(shape):
            with pa.OSFile(str(folder / f"{n}.arrow"), "wb") as file:
                pa.ipc.write_tensor(pa.Tensor.from_numpy(_zeros(dtype, shape)), file)
    (folder / SHAPES).write_text(json.dumps(named), encoding="utf-8")
    return _mapped(folder, mmap.ACCESS_WRITE)


def _zeros(dtype: str, shape: list[int]) -> np.ndarray:
    """Return read-only zeros that take no memory, of any size, to fill a new file with.

    Files are written in full, not sparse: a full disk is then an error here, and not a SIGBUS when
    a page is touched.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return np.frombuffer(mmap.mmap(-1, size, flags, mmap.PROT_READ), kind).reshape(shape)


def _mapped(folder: Path, access: int) -> list[Tensor]:
    shapes = json.loads((folder / SHAPES).read_text("utf-8"))
    return [_map(folder / f"{n}.arrow", *shape, access=access) for n, shape in enumerate(shapes)]


def _map(path: Path, dtype: str, shape: list[int], *, access: int) -> Tensor:
    kind = getattr(torch, dtype)
    if 0 in shape:
        return torch.zeros(shape, dtype=kind)
    with path.open("r+b" if access == mmap.ACCESS_WRITE else "rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=access)
    whole = pa.py_buffer(pages)
    values = pa.ipc.read_tensor(pa.BufferReader(whole)).to_numpy()
    at = values.ctypes.data - whole.address
    return torch.from_numpy(np.frombuffer(pages, values.dtype, values.size, at).reshape(shape))
