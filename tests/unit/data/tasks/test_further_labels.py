import math

import pyarrow as pa
import pytest
import torch

from metarec_ray.data.fields import FeatureField
from metarec_ray.data.tasks.further_labels import LabelSpace
from metarec_ray.errors import RequestError

SPACE = LabelSpace(
    [
        FeatureField(name="click", kind="numeric", dim=1, knots=(0.0, 1.0), ranks=(0.25, 0.75)),
        FeatureField(name="dwell", kind="numeric", dim=1, knots=(0.0, 10.0), ranks=(0.0, 1.0)),
    ]
)


def test_a_request_has_the_numbers_that_a_store_has() -> None:
    stored = SPACE.encode(
        {"click": pa.array([1.0, None]), "dwell": pa.array([None, 7.5], pa.float32())}, 2
    )
    asked = SPACE.records([{"click": 1}, {"dwell": 7.5, "click": None}])
    expected = torch.tensor([[0.25 * math.sqrt(12), math.nan], [math.nan, 0.25 * math.sqrt(12)]])
    torch.testing.assert_close(stored, expected, equal_nan=True)
    torch.testing.assert_close(asked, expected, equal_nan=True)


def test_without_labels_events_have_none() -> None:
    assert LabelSpace([]).records([{}, {}]).shape == (2, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "5", [1.0], 1e300])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(RequestError, match="label 'dwell' of an event must be a finite number"):
        SPACE.records([{"dwell": value}])


def test_a_label_that_is_not_known_is_refused() -> None:
    with pytest.raises(RequestError, match=r"must be among \['click', 'dwell'\], got 'like'"):
        SPACE.records([{"click": 1.0}, {"like": 1.0}])
