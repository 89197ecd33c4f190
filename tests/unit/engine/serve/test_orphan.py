"""Whose endpoint a cluster serves, from rows of its table of drivers."""

import pytest

from metarec_ray.engine.serve.orphan import Driver, find_driver

PYTHON = "/opt/venv/bin/python"


def row(job: str, entrypoint: str, *, dead: bool) -> dict[str, object]:
    return {
        "JobID": job,
        "DriverPid": 7,
        "DriverIPAddress": "10.0.0.1",
        "IsDead": dead,
        "Entrypoint": entrypoint,
    }


@pytest.mark.parametrize(
    ("entrypoint", "ours"),
    [
        (f"{PYTHON} -m metarec_ray serve runs/a/checkpoint --port 8123", True),
        (f"{PYTHON} /opt/venv/bin/metarec serve runs/a/checkpoint", True),
        (f"{PYTHON} -m metarec_ray train config.yaml", False),
        (f"{PYTHON} -m serve", False),
        (f"{PYTHON} -c", False),
    ],
)
def test_only_a_metarec_serve_is_ours(entrypoint: str, ours: bool) -> None:
    rows = [row("01", "other", dead=False), row("02", entrypoint, dead=True)]
    assert find_driver("02", rows) == Driver("process 7 on 10.0.0.1", True, ours)


def test_a_driver_that_the_table_has_forgotten_is_nobody() -> None:
    assert find_driver("03", [row("01", "other", dead=True)]) is None
