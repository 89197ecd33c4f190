"""Hashes of raw ids, the same in every process and on every machine.

Knows ids as text; does not know what is decided by them.
"""

from hashlib import blake2b

import numpy as np
import polars as pl

HASH_SPAN = 2**64


def stable_hash(raw: str | int) -> int:
    """Return the 8-byte blake2b of an id's text as an unsigned integer.

    >>> stable_hash(7) == stable_hash("7")
    True
    """
    return int.from_bytes(blake2b(str(raw).encode(), digest_size=8).digest(), "big")


def stable_hashes(ids: pl.Series) -> np.ndarray:
    """Return the stable hash of each raw id, uint64; equal ids are hashed once."""
    unique = ids.unique()
    known = pl.Series([stable_hash(raw) for raw in unique], dtype=pl.UInt64)
    return ids.replace_strict(unique, known, return_dtype=pl.UInt64).to_numpy()


def unit_hashes(ids: pl.Series) -> np.ndarray:
    """Return the stable hash of each raw id as a number in [0, 1)."""
    return np.array([stable_hash(raw) / HASH_SPAN for raw in ids])
