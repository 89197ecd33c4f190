"""A list of jobs, and how one is stopped; no Ray runs."""

from pathlib import Path

import pytest

from metarec_ray.engine.jobs.listing import entries, stop
from metarec_ray.errors import MachineError, RunFailed
from tests.unit.engine.jobs.played import Cluster, details, played


def test_jobs_are_listed_with_what_they_were_submitted_for() -> None:
    about = {"metarec": "1", "verb": "train", "run": "/runs/a", "supervisor": "s"}
    done = details("one", "SUCCEEDED", start_time=5_000, end_time=9_500, metadata=about)
    other = details("two", start_time=2_000, driver_node_id="n")
    waiting = details("three", "PENDING", metadata={"verb": "data append", "run": ""})
    third, second, first = entries(played(Cluster(done, other, waiting)), clock=lambda: 62.0)
    assert first == ("one", "train", "/runs/a", "succeeded", 5.0, 4.5, "s", None)
    assert second == ("two", None, None, "running", 2.0, 60.0, None, "n")
    assert third == ("three", "data append", None, "pending", None, None, None, None)


def test_a_job_is_waited_for_and_where_it_goes_on_is_said(tmp_path: Path) -> None:
    for step in (100, 300):
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
        (tmp_path / "checkpoints" / f"step-{step:08d}" / "COMMITTED").touch()
    (tmp_path / "checkpoints" / "step-00000900").mkdir()  # half written
    cluster = Cluster(details("one", metadata={"verb": "train", "run": str(tmp_path)}))
    cluster.stops_at_once = False
    cluster.script["one"] = [{}, {}, {}, {"status": "STOPPED"}]
    (ended,) = stop(played(cluster), "one", sleep=lambda seconds: None)
    assert ended.sentence() == (
        f"one has stopped; the same line goes on in {tmp_path}, newest checkpoint step-00000300"
    )


def test_a_sweep_goes_on_with_its_option_and_an_unseen_folder_has_no_checkpoint() -> None:
    cluster = Cluster(details("one", metadata={"verb": "tune", "run": "/nowhere/a"}))
    (ended,) = stop(played(cluster), "one")
    assert ended.sentence() == "one has stopped; the same line with --resume goes on in /nowhere/a"


def test_what_had_ended_is_left_and_said() -> None:
    (ended,) = stop(played(Cluster(details("one", "FAILED"))), "one")
    assert ended.sentence() == "one had ended already"


def test_a_supervised_job_stops_before_its_supervisor() -> None:
    def child(name: str, status: str = "RUNNING"):
        return details(name, status, metadata={"verb": "train", "run": "", "supervisor": "s"})

    cluster = Cluster(details("s"), child("s-1", "FAILED"), child("s-2"), details("other"))
    ended = stop(played(cluster), "s")
    assert [one.id for one in ended] == ["s-2", "s"]
    assert [word for word in cluster.asked if word.startswith("stop")] == ["stop s-2", "stop s"]
    assert cluster.jobs["other"].status == "RUNNING"


def test_what_a_supervisor_submits_while_it_is_stopped_is_stopped_too() -> None:
    class Late(Cluster):
        def stop_job(self, job_id: str) -> bool:
            if job_id == "s":
                self.jobs["s-2"] = details("s-2", metadata={"supervisor": "s"})
            return super().stop_job(job_id)

    cluster = Late(details("s"))
    assert [one.id for one in stop(played(cluster), "s")] == ["s", "s-2"]


def test_a_job_that_does_not_end_is_one_sentence() -> None:
    cluster = Cluster(details("one"))
    cluster.stops_at_once = False
    now = iter(range(0, 1000, 25))
    with pytest.raises(RunFailed, match="within 60 s of being asked, one has not: metarec jobs st"):
        stop(played(cluster), "one", sleep=lambda seconds: None, clock=lambda: next(now))


def test_an_unknown_job_is_one_sentence() -> None:
    with pytest.raises(MachineError, match="a job must be known to the cluster, 'x' is not"):
        stop(played(Cluster()), "x")
