from pathlib import Path

import pytest

from metarec_ray.errors import DataError
from tests.unit.report.runs import made_run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"rows_in": "many"}}, r"data.rows_in of a run's file is wrong.*'many'"),
        ({"rows": [{"method": "ease", "k": 3, "ndcg@10": 0.1}]}, "kind of a run's file is wrong"),
        ({"sweep": {"metric": "m", "mode": "up", "trials": []}}, r"sweep.mode .*'up'"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        made_run(tmp_path, **changes)
