"""What is said of workers that fail and of those that do not start; Ray is not started."""

from pathlib import Path

import pytest
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

from metarec_ray.engine.nodes import Node
from metarec_ray.engine.train.following import (
    AGAIN_S,
    PATIENCE_S,
    Failures,
    Follower,
    Wait,
    awaited,
    cause,
    failure,
)
from metarec_ray.engine.train.workers import _failed, require_one_start
from metarec_ray.errors import CheckpointError, RunFailed
from metarec_ray.training.run_folder import events_log
from metarec_ray.training.run_folder.events_log import Event
from tests.unit.failing_disk import FAULTS, failing

STARTED = Event("started", 0.0, "2 workers on a, b from step 0", 0, ("a", "b"))
HUNG = WorkerHealthCheckTimeoutError("A worker health check has been hanging")
TWO = [Node("1", "a", 1.0), Node("2", "b", 2.0)]


def follower(folder: Path, said: list[str]) -> Follower:
    return Follower(folder, said.append, workers=2, cpus=1.0)


def test_a_worker_that_hangs_is_told_with_its_rank_and_node() -> None:
    assert failure({1: HUNG}, [STARTED]) == (
        "rank 1 on b: it hangs, its process has not answered for too long"
    )


def test_what_others_say_of_a_worker_that_died_is_left_out() -> None:
    died = WorkerHealthCheckFailedError("x", RuntimeError("a paragraph of guesses"))
    others = {0: RuntimeError("Connection closed by peer"), 1: died}
    assert failure(others, [STARTED]) == (
        "rank 1 on b: its process died: a kill, a crash or no memory left"
    )


def test_the_last_line_of_an_error_is_its_cause() -> None:
    assert cause(RuntimeError("Traceback\n  at\nValueError: x\n")) == "ValueError: x"
    assert cause(RuntimeError()) == "RuntimeError"
    advice = "Connection closed by peer. This is typically caused by a remote worker crashing."
    assert cause(RuntimeError(advice)) == "Connection closed by peer."


def test_nodes_of_an_earlier_group_are_not_those_of_the_next() -> None:
    """Between a failure and the next start nobody knows who was on which node."""
    failed = Event("failed", 1.0, "rank 1 on b: killed")
    errors: dict[int, Exception] = {0: RuntimeError("x"), 1: RuntimeError("y")}
    assert failure(errors, [STARTED, failed]) == "rank 0: x; rank 1: y"
    assert failure(errors, []) == "rank 0: x; rank 1: y"


def test_a_failure_is_written_down(tmp_path: Path) -> None:
    events_log.append(tmp_path, "started", "2 workers", nodes=("a", "b"))
    Failures(tmp_path).after_exception(None, {0: RuntimeError("gone")})
    assert [event.sentence for event in events_log.read(tmp_path)] == [
        "2 workers",
        "rank 0 on a: gone",
    ]


def test_what_is_waited_for_is_a_node_or_the_workers_themselves() -> None:
    assert awaited(2, 1.0, TWO, 3.0) == (
        "2 workers of 1 CPU to start; CPUs of living nodes: 1 on a, 2 on b, free: 3"
    )
    assert awaited(2, 1.0, TWO[:1], 1.0) == (
        "a node, for 2 workers of 1 CPU; CPUs of living nodes: 1 on a"
    )
    assert awaited(1, 0.5, [], 0.0) == "a node, for 1 worker of 0.5 CPU; CPUs of living nodes: none"


def test_waiting_is_told_soon_and_then_now_and_again() -> None:
    wait = Wait()
    assert not wait.due(1e9)
    wait.begin(100.0)
    assert PATIENCE_S < 10.0
    times = [100.0, 100.0 + PATIENCE_S, 101.0 + PATIENCE_S, 101.0 + PATIENCE_S + AGAIN_S]
    assert [wait.due(now) for now in times] == [False, True, False, True]
    wait.end()
    assert not wait.due(1e9)


def test_a_first_start_is_silent_and_a_later_one_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    told = follower(tmp_path, said)
    with told:
        events_log.append(tmp_path, "started", "2 workers on a, b from step 0")
        events_log.append(tmp_path, "failed", "rank 1 on b: killed")
        events_log.append(tmp_path, "started", "2 workers on a, c from step 20")
    assert said == [
        "train: failed: rank 1 on b: killed",
        "train: going on with 2 workers on a, c from step 20",
    ]
    assert (told.failed, told.last_failure) == (1, "rank 1 on b: killed")


@pytest.mark.parametrize(("times", "word"), [(1, "once"), (4, "4 times")])
def test_a_run_that_is_given_up_says_how_often_it_failed(
    tmp_path: Path, times: int, word: str
) -> None:
    events_log.append(tmp_path, "failed", "rank 0: of an earlier command")
    told = follower(tmp_path, [])
    with told:
        for _ in range(times):
            events_log.append(tmp_path, "failed", "rank 1: killed")
    assert _failed(WorkerGroupError("x", {1: RuntimeError()}), told, times - 1) == (
        f"workers failed {word}, train.max_failures is {times - 1}: rank 1: killed; "
        "the same command resumes from the last checkpoint"
    )


def test_a_run_on_a_full_disk_says_why_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: dict[int, Exception] = {0: CheckpointError("a checkpoint must be writable, got [28]")}
    with failing(monkeypatch, 0, FAULTS["a full disk"]):
        Failures(tmp_path).after_exception(None, errors)
    assert _failed(WorkerGroupError("x", errors), follower(tmp_path, []), 3) == (
        "workers failed more than 3 times, train.max_failures is 3: rank 0: a checkpoint must be "
        "writable, got [28]; the same command resumes from the last checkpoint"
    )


def test_workers_that_found_different_checkpoints_do_not_begin() -> None:
    require_one_start([("a", 40), ("b", 40)])
    with pytest.raises(RunFailed, match=r"found those of step 40 on a, 80 on b: do all nodes see"):
        require_one_start([("a", 40), ("b", 80)])


def test_workers_that_never_started_have_not_failed(tmp_path: Path) -> None:
    error = ControllerError(TimeoutError("no room"))
    assert _failed(error, follower(tmp_path, []), 3) == (
        "workers could not be started: no room; the same command resumes from the last checkpoint"
    )
