"""The numbers of `metarec data check`, counted by hand."""

from pathlib import Path

import pytest

from metarec_ray.data.inspection.check import check
from metarec_ray.data.log import sources
from metarec_ray.data.settings import Columns, Data, Feature
from metarec_ray.errors import DataError

HEAD = "user,item,stars,at,hour\n"


def checked(path: Path, **more: object) -> dict[str, object]:
    fields = {
        "path": str(path),
        "feedback": "explicit",
        "columns": Columns(label="stars", time="at"),
        "context": {"hour": Feature(kind="numeric")},
        "max_bad_share": 0.0,
    }
    return check(sources.find(Data.model_validate(fields | more)))


def test_a_log_is_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    (log / "1.csv").write_text(HEAD + "a,x,4,0,1\na,y,5,86400,\nb,x,2,60,3\nb,z,3,61,\n")
    (log / "2.csv").write_text(HEAD + "b,y,3,62,\na,x,4,0,1\n,x,4,0,1\na,z,nan,0,1\nc,x,3,nan,1\n")
    found = checked(log, label_min=3.0)
    # b's x has two stars: filtered. The last three are bad, and a's x comes twice.
    assert (found["rows"], found["kept"], found["duplicates"]) == (9, 4, 1)
    assert found["filtered"] == {"label_min": 1}
    assert found["quarantined"] == {
        "entity is missing": 1,
        "label is missing": 1,
        "time is missing": 1,
    }
    assert found["first bad rows"] == [
        "row 2 of 2.csv: entity is missing, got null",
        "row 3 of 2.csv: label is missing, got nan",
        "row 4 of 2.csv: time is missing, got nan",
    ]
    assert (found["entities"], found["items"]) == (2, 3)
    assert found["events per entity"] == {"median": 2.0, "max": 2, "2": 2}
    assert found["labels"] == [3.0, 5.0]
    assert found["time"] == ["1970-01-01T00:00:00+00:00", "1970-01-02T00:00:00+00:00"]
    assert found["missing context"] == {"hour": 3}
    assert found["out of order"] == "0 of 5, 0.00%"  # files are looked at one by one
    assert found["ids"] == {"entity": "text", "item": "text"}
    assert "entities enough" in str(found["cold"])


def test_the_held_out_and_what_floats_confuse_are_counted(tmp_path: Path) -> None:
    lines = [f"{2**53 + user},{2**24 + user},4,{user * 10},1" for user in range(10)]
    # The cutoff is when eight tenths have begun; user 0 meets an item that nobody met before.
    lines += [f"{2**53},7,4,500,1", f"{2**53},8,4,490,1"]
    (tmp_path / "log.csv").write_text(HEAD + "\n".join(lines) + "\n")
    found = checked(tmp_path / "log.csv")
    assert found["cold"] == {
        "valid entities": 1,
        "test entities": 2,
        "cutoff": "1970-01-01T00:01:20+00:00",
        "items first met later": 4,
    }
    assert found["out of order"] == "1 of 12, 8.33%"
    assert found["events per entity"] == {"median": 1.0, "max": 3, "1": 9, "3": 1}
    assert found["ids"] == {
        "entity": f"integers from {2**53} to {2**53 + 9}, beyond what float32 and float64 hold",
        "item": f"integers from 7 to {2**24 + 9}, beyond what float32 hold",
    }


def test_a_log_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEAD)
    with pytest.raises(DataError, match="a log must hold rows, got none"):
        checked(tmp_path / "log.csv", context={})
