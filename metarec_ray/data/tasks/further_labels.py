"""Further labels of events as numbers on one scale, from a store's columns or from a request.

Knows the fields of a manifest; does not know which events there are, or who learns from them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from metarec_ray.data.fields import FeatureField
from metarec_ray.data.tasks.features import finite, on_one_scale
from metarec_ray.errors import RequestError


class LabelSpace:
    """The L further labels of a store, in the order of their names."""

    def __init__(self, fields: Sequence[FeatureField]):
        self.names = [field.name for field in fields]
        self._fields = list(fields)

    def encode(self, columns: Mapping[str, pa.Array], n: int) -> Tensor:
        """Return the labels of n events, float [n, L]: ranks of about variance 1, NaN if missing.

        `columns` has one of numbers for each name, raw as a store holds them.
        """
        found = np.zeros((n, len(self.names)), np.float32)
        for place, field in enumerate(self._fields):
            values = columns[field.name].cast(pa.float64()).to_numpy(zero_copy_only=False)
            found[:, place] = on_one_scale(values.astype(np.float64), field)
        return torch.from_numpy(found)

    def records(self, events: Sequence[Mapping[str, Any]]) -> Tensor:
        """Return the labels of n events from raw values by name, float [n, L].

        Raises:
            RequestError: a name that is not known, or a value that is no finite number.

        """
        unknown = sorted({name for labels in events for name in labels} - set(self.names))
        if unknown:
            raise RequestError(f"labels of events must be among {self.names}, got {unknown[0]!r}")
        columns = {
            name: pa.array([_number(name, labels.get(name)) for labels in events], pa.float32())
            for name in self.names
        }
        return self.encode(columns, len(events))


def _number(name: str, value: Any) -> float | None:
    try:
        return None if value is None else finite(value)
    except (TypeError, ValueError, OverflowError):
        raise RequestError(f"label {name!r} of an event must be a finite number") from None
