"""What a process that trains asks of torch and of the C library.

Knows threads, devices and glibc's allocator; does not know what is trained.
"""

import ctypes
from contextlib import AbstractContextManager, nullcontext

import torch

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of malloc.h
_KEPT, _PAD, _LARGEST = 1 << 30, 1 << 26, 1 << 25  # bytes; 32 MiB is the most that glibc takes


def settle(device: torch.device) -> AbstractContextManager:
    """Set this process up for training, and return the context that makes tensors on `device`.

    One thread, so that bits depend on nothing but data and seed.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    # On the CPU they are made anyway, and the mode is a detour of every call.
    return nullcontext() if device.type == "cpu" else device


def keep_freed_memory() -> bool:
    """Let freed memory stay with the process, up to 1 GiB; return whether that could be done.

    A step frees what it made and makes it again in the next: given back to the system in between,
    every page is faulted in and zeroed anew.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # no glibc
        return False
    asked = ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _PAD))
    return all([mallopt(parameter, value) == 1 for parameter, value in asked])
