"""Limits of control groups, as files of both versions say them."""

import os
from pathlib import Path

import pytest

from metarec_ray.engine.cluster import machine

GIB = 2**30


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


def lay(folder: Path, own: str, **files: str) -> tuple[Path, Path]:
    """Write the group of this process and files below the groups' folder, `__` for a slash."""
    (folder / "own").write_text(own)
    for name, text in files.items():
        path = folder / "groups" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return folder / "groups", folder / "own"


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("limits", "cpus"),
    [
        ({}, 64),
        ({"cpu_dot_max": "max 100000"}, 64),
        ({"cpu_dot_max": "200000 100000"}, 2),
        ({"cpu_dot_max": "150000 100000"}, 2),
        ({"cpu_dot_max": "10000 100000"}, 1),
        ({"a__b__cpu_dot_max": "max 100000", "a__cpu_dot_max": "300000 100000"}, 3),
        ({"cpu_dot_max": "12800000 100000"}, 64),
    ],
)
def test_cpus_are_the_smaller_of_host_and_groups(
    tmp_path: Path, limits: dict[str, str], cpus: int
) -> None:
    assert machine.cpus(*lay(tmp_path, "0::/a/b\n", **limits)) == cpus


@pytest.mark.usefixtures("many")
def test_cpus_of_the_first_version_are_a_quota_and_a_period(tmp_path: Path) -> None:
    files = {"cpu__a__cpu_dot_cfs_quota_us": "-1", "cpu__a__cpu_dot_cfs_period_us": "100000"}
    own = "5:cpu,cpuacct:/a\n4:memory:/a\n"
    assert machine.cpus(*lay(tmp_path, own, **files)) == 64
    files = {"cpu__cpu_dot_cfs_quota_us": "400000", "cpu__cpu_dot_cfs_period_us": "100000"}
    assert machine.cpus(*lay(tmp_path, own, **files)) == 4


@pytest.mark.parametrize(
    ("own", "limits", "bytes_"),
    [
        ("0::/\n", {}, 8 * GIB),
        ("0::/\n", {"memory_dot_max": "max"}, 8 * GIB),
        ("0::/\n", {"memory_dot_max": str(2 * GIB)}, 2 * GIB),
        ("0::/a\n", {"a__memory_dot_max": str(2 * GIB), "memory_dot_max": str(GIB)}, GIB),
        ("4:memory:/a\n", {"memory__memory_dot_limit_in_bytes": str(GIB)}, GIB),
        ("4:memory:/a\n", {"memory__a__memory_dot_limit_in_bytes": str(2**63 - 4096)}, 8 * GIB),
        ("", {}, 8 * GIB),
    ],
)
def test_memory_is_the_smaller_of_host_and_groups(
    tmp_path: Path, own: str, limits: dict[str, str], bytes_: int
) -> None:
    assert machine.memory_limit(8 * GIB, *lay(tmp_path, own, **limits)) == bytes_


def test_a_machine_without_groups_has_no_limits(tmp_path: Path) -> None:
    assert machine.memory_limit(8 * GIB, tmp_path, tmp_path / "none") == 8 * GIB
    assert machine.cpus() >= 1
