"""Encoded feature columns as tensors: bags of tokens and dense vectors.

A side (user, item, context) has one token table. Its row 0 is padding; then each categorical field
has `size + 1` rows, the first for unknown values. Does not know the values of vocabularies.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import pad

from metarec_ray.core.batch import Features, FieldSpan, SideInformation
from metarec_ray.data.fields import FeatureField
from metarec_ray.data.log.features.encode import ARROW
from metarec_ray.errors import RequestError

Column: TypeAlias = "pa.Array | pa.ChunkedArray"
LARGEST = float(np.finfo(np.float32).max)


class FeatureSpace:
    """The fields of one side, and where each is in the token table and in the dense vector."""

    def __init__(self, fields: Sequence[FeatureField]):
        self.fields = list(fields)
        self.first_row: dict[str, int] = {}
        row = 1
        for field in self.fields:
            if field.kind in ("categorical", "multi_categorical"):
                self.first_row[field.name] = row
                row += field.size + 1
        self.tokens = row
        self.dense = sum(field.dim for field in self.fields)

    def side(self, features: Features) -> SideInformation:
        """Return features of this space as side information, with the place of every field."""
        spans, column = [], 0
        for field in self.fields:
            if field.name in self.first_row:
                first = self.first_row[field.name]
                spans.append(FieldSpan(field.name, True, first, first + field.size + 1))
            else:
                spans.append(FieldSpan(field.name, False, column, column + field.dim))
                column += field.dim
        return SideInformation(features, tuple(spans), self.tokens)

    def missing(self) -> Features:
        """Return the features of one entity whose fields are all missing."""
        return encode_record(self, {}, {}, "")

    def encode(self, columns: Mapping[str, Column], n: int) -> Features:
        """Return the features of n entities from the columns of a store, one for every field."""
        tokens, weights, dense = [], [], []
        for field in self.fields:
            column = columns[field.name]
            column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            if field.kind == "categorical":
                index = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
                tokens.append(index[:, None] + self.first_row[field.name])
                weights.append(np.ones((n, 1), np.float32))
            elif field.kind == "multi_categorical":
                bag, weight = _bag(column, self.first_row[field.name])
                tokens.append(bag)
                weights.append(weight)
            elif field.kind == "numeric":
                values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
                scaled = on_one_scale(values.astype(np.float64), field)
                dense.append(np.nan_to_num(scaled, nan=0.0).astype(np.float32)[:, None])
            else:
                dense.append(_vectors(column, field.dim))
        return Features(
            tokens=_join(tokens, n, np.int64),
            weights=_join(weights, n, np.float32),
            dense=_join(dense, n, np.float32),
        )


def encode_record(
    space: FeatureSpace, vocabulary: Mapping[str, list[str]], fields: Mapping[str, Any], side: str
) -> Features:
    """Return the features of ONE entity from raw values; other fields are missing.

    Raises:
        RequestError: an unknown field, or a value of the wrong type; `side` names it.

    """
    known = {field.name: field for field in space.fields}
    if unknown := sorted(set(fields) - set(known)):
        raise RequestError(f"{side} fields must be among {sorted(known)}, got {unknown[0]!r}")
    columns: dict[str, Column] = {}
    for name, field in known.items():
        value = _index(field, vocabulary.get(name, []), fields.get(name), side)
        columns[name] = pa.array([value], type=ARROW[field.kind])
    return space.encode(columns, 1)


def stack(records: Sequence[Features]) -> Features:
    """Return the features of all records as one set; smaller bags are padded."""
    width = max(record.tokens.shape[-1] for record in records)
    padded = [
        Features(
            tokens=pad(record.tokens, (0, width - record.tokens.shape[-1])),
            weights=pad(record.weights, (0, width - record.weights.shape[-1])),
            dense=record.dense,
        )
        for record in records
    ]
    return Features(*(torch.cat(column) for column in zip(*padded, strict=True)))


def on_one_scale(values: np.ndarray, field: FeatureField) -> np.ndarray:
    """Return numbers on one scale: their ranks, with the median at 0; NaN stays NaN.

    Ranks that are spread evenly have variance 1 and lie within +-3^(1/2). Of stores without ranks,
    deviations from the mean.
    """
    if not field.knots:
        return (values - field.mean) / field.std
    ranks = np.interp(values, field.knots, field.ranks)  # of one knot it knows no NaN
    return (np.where(np.isnan(values), np.nan, ranks) - 0.5) * math.sqrt(12)


def _bag(column: pa.ListArray, first_row: int) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens [n, M] (0 = padding) and weights 1/sqrt(count)."""
    offsets = column.offsets.to_numpy()
    lengths = np.diff(offsets)
    values = column.values.to_numpy(zero_copy_only=False).astype(np.int64)
    width = max(int(lengths.max(initial=0)), 1)
    at = np.arange(width)
    inside = at[None, :] < lengths[:, None]
    tokens = np.zeros((len(column), width), np.int64)
    source = (offsets[:-1, None] + at[None, :])[inside]
    tokens[inside] = values[source] + first_row
    weights = inside / np.sqrt(np.maximum(lengths, 1))[:, None]
    return tokens, weights.astype(np.float32)


def _vectors(column: pa.ListArray, dim: int) -> np.ndarray:
    found = np.zeros((len(column), dim), np.float32)
    values = column.drop_null().flatten().to_numpy(zero_copy_only=False)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    found[present] = values.reshape(present.sum(), dim)  # -1 is ambiguous if the length is 0
    return found


def _join(parts: list[np.ndarray], n: int, dtype: type) -> torch.Tensor:
    joined = np.concatenate(parts, 1) if parts else np.zeros((n, 0))
    return torch.from_numpy(np.ascontiguousarray(joined.astype(dtype)))


def _index(field: FeatureField, vocabulary: list[str], value: Any, side: str) -> Any:
    """Return a raw value as a store has it: encoded."""
    try:
        if field.kind == "categorical":
            return 0 if value is None else _token(vocabulary, value)
        if field.kind == "multi_categorical":
            values = [value] if isinstance(value, str | int) else list(value or [])
            return sorted({_token(vocabulary, each) for each in values})
        if field.kind == "numeric":
            return None if value is None else finite(value)
        if value is not None and len(value) != field.dim:
            raise ValueError
        return None if value is None else [finite(each) for each in value]
    except (TypeError, ValueError, OverflowError):
        raise RequestError(
            f"{side} field {field.name!r} must be {field.kind.replace('_', '-')}"
        ) from None


def _token(vocabulary: list[str], value: Any) -> int:
    if not isinstance(value, str | int):
        raise TypeError
    return vocabulary.index(str(value)) + 1 if str(value) in vocabulary else 0


def finite(value: Any) -> float:
    """Return a number that float32 holds; TypeError, ValueError or OverflowError if it is none."""
    if isinstance(value, bool) or not abs(value) <= LARGEST:
        raise ValueError
    return float(value)
