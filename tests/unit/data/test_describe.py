"""The numbers of `metarec data describe`, counted by hand."""

from pathlib import Path

from metarec_ray.data.describe import describe
from metarec_ray.data.logs import read_log
from metarec_ray.data.settings import Columns, Data


def test_a_log_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,stars,at\na,x,4,0\na,y,5,86400\nb,x,2,60\nb,z,3,61\nb,y,3,62\n")
    columns = Columns(label="stars", time="at")
    log = read_log(Data(path=str(path), feedback="explicit", label_min=3.0, columns=columns))
    found = describe(log)
    # b's x has two stars: filtered, so four events are left, two of a and two of b.
    assert (found["rows"], found["events"], found["filtered"]) == (5, 4, 1)
    assert (found["entities"], found["items"]) == (2, 3)
    assert found["events per entity"] == {"min": 2.0, "median": 2.0, "max": 2.0}
    assert found["labels"] == {"min": 3.0, "median": (3 + 4) / 2, "max": 5.0}
    assert found["time"] == ["1970-01-01T00:00:00+00:00", "1970-01-02T00:00:00+00:00"]
    assert found["quarantined"] == {}
