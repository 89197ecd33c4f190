"""How a training process sets up torch and the C library.

Knows threads, devices and glibc's allocator; does not know what is trained.
"""

import ctypes
from contextlib import AbstractContextManager, nullcontext

import torch

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of malloc.h
_KEPT, _PAD, _LARGEST = 1 << 30, 1 << 26, 1 << 25  # bytes; 32 MiB is the most that glibc takes


def set_up(device: torch.device) -> AbstractContextManager:
    """Set this process up for training; return the context in which tensors are made on `device`.

    One thread, so that the parameters depend, bit for bit, on nothing but data and seed.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    # Tensors are made on the CPU without it, and torch's device mode slows every call down.
    return nullcontext() if device.type == "cpu" else device


def keep_freed_memory() -> bool:
    """Keep freed memory in the process, up to 1 GiB; return whether the C library took that.

    A step frees its tensors and the next one allocates as many. If the memory went back to the
    system in between, every page would be faulted in and zeroed again.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # no glibc
        return False
    asked = ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _PAD))
    return all([mallopt(parameter, value) == 1 for parameter, value in asked])
