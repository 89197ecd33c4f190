"""What is asked of nodes before anything runs on them; the cluster is played by a few lines."""

from pathlib import Path

import pytest

from metarec_ray.engine.nodes import _JOB, Look, Node, require_cpus, seen, versions
from metarec_ray.errors import MachineError

ONE = [Node("1", "a", 1.0)]
TWO = [Node("1", "a", 1.0), Node("2", "b", 2.0)]


@pytest.mark.parametrize(
    ("found", "each", "together"),
    [(ONE, 1.0, 1), (ONE, 0.5, 2), (TWO, 1.0, 3), (TWO, 0.1, 30), (TWO, 2.0, 1)],
)
def test_workers_that_fit_are_let_in(found: list[Node], each: float, together: int) -> None:
    require_cpus(each, together, key="x", found=found, environ={})


@pytest.mark.parametrize(
    ("found", "each", "together", "has"),
    [
        (ONE, 1.5, 1, "1 on a"),
        (ONE, 0.6, 2, "1 on a"),
        (TWO, 1.5, 2, "1 on a, 2 on b"),  # three CPUs, but half a worker on two nodes
    ],
)
def test_workers_that_never_fit_are_refused(
    found: list[Node], each: float, together: int, has: str
) -> None:
    with pytest.raises(MachineError, match=rf"{together} workers at once \(key\), .* has {has}$"):
        require_cpus(each, together, key="key", found=found, environ={})


def test_a_job_leaves_its_workers_less_of_the_only_node() -> None:
    inside = {_JOB: "{}"}
    with pytest.raises(MachineError, match=r"beside the 0.1 of the job itself"):
        require_cpus(1.0, 1, key="a unit of prepare", found=ONE, environ=inside)
    require_cpus(0.9, 1, key="x", found=ONE, environ=inside)
    require_cpus(1.0, 1, key="x", found=TWO, environ=inside)


def look(folder: Path, **changed) -> Look:
    (folder / "marker").write_text("a text")
    (folder / "manifest.json").touch()
    whole = Look(str(folder / "marker"), "a text", str(folder), versions())
    return whole._replace(**changed)


def test_a_node_that_sees_everything_takes_part(tmp_path: Path) -> None:
    assert seen(look(tmp_path)) is None
    assert seen(look(tmp_path, store=None)) is None


def test_a_node_says_what_it_does_not_see(tmp_path: Path) -> None:
    gone = tmp_path / "elsewhere"
    for changed, sentence in [
        ({"marker": str(gone / "marker")}, "does not see the run's folder (No such file"),
        ({"text": "other"}, "sees another folder under the name of the run's"),
        ({"store": str(gone)}, f"does not see the task store ({gone})"),
    ]:
        assert (seen(look(tmp_path, **changed)) or "").startswith(sentence)
    other = seen(look(tmp_path), own=lambda: versions() | {"torch": "1.0"})
    assert (other or "").startswith("has torch 1.0, the driver ")
