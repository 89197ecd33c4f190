"""How a run stands, asked on the head of a cluster; no Ray runs."""

import json
from typing import Any

import pytest

from metarec_ray.engine.jobs.remote import status
from metarec_ray.errors import DataError, RunFailed
from tests.unit.engine.jobs.played import Cluster, details, played


class Head(Cluster):
    """Answers a job of `metarec status` with a log and an exit code."""

    def __init__(self, log: str, code: int | None, *jobs: Any):
        super().__init__(*jobs)
        self.answer, self.code = log, code

    def submit_job(self, **what: Any) -> str:
        job_id = super().submit_job(**what)
        self.logs[job_id] = [self.answer]
        if self.code is not None:
            ended = "FAILED" if self.code else "SUCCEEDED"
            self.change(job_id, status=ended, driver_exit_code=self.code)
        return job_id


def of(run: str, job_id: str, status: str = "RUNNING", verb: str = "train"):
    return details(job_id, status, metadata={"verb": verb, "run": run})


def asked(head: Head, subject: str, *, as_json: bool = False) -> str:
    now = iter(range(0, 1000, 20))
    return status(
        played(head),
        "/venv/python",
        subject,
        f"/work/{subject}",
        as_json=as_json,
        sleep=lambda seconds: None,
        clock=lambda: next(now),
    )


def test_the_head_reads_the_folder_and_its_newest_job_is_told() -> None:
    head = Head(
        "a warning\nrunning, moved 3 s ago; step 30 of 100\n",
        0,
        of("/work/runs/a", "train-1", "FAILED"),
        of("/work/runs/a", "train-2"),
        of("/work/runs/b", "train-3"),
    )
    said = asked(head, "runs/a")
    assert said == "running, moved 3 s ago; step 30 of 100; its job train-2: running"
    (sent,) = head.submitted
    assert sent["entrypoint"] == "/venv/python -m metarec_ray status /work/runs/a"
    assert sent["entrypoint_num_cpus"] is None  # on the head, however busy
    assert [job for job in head.jobs if (job or "").startswith("status")] == []


def test_a_job_is_asked_for_by_its_id() -> None:
    head = Head("stopped for 2 min\n", 0, of("/work/runs/a", "train-1", "STOPPED"))
    assert asked(head, "train-1") == "stopped for 2 min; its job train-1: stopped"
    assert head.submitted[0]["entrypoint"].endswith("status /work/runs/a")


def test_an_object_holds_the_job_too() -> None:
    head = Head('{"state": "running"}\n', 0, of("/work/runs/a", "train-2"))
    found = json.loads(asked(head, "runs/a", as_json=True))
    assert (found["state"], found["job"]["id"]) == ("running", "train-2")
    alone = json.loads(asked(Head('{"state": "running"}\n', 0), "runs/a", as_json=True))
    assert alone == {"state": "running", "job": None}


def test_where_nothing_is_is_the_heads_own_sentence() -> None:
    head = Head("metarec: a run has metrics, /work/runs/a holds none\n", 2)
    with pytest.raises(DataError, match=r"^a run has metrics, .* none \(asked on the head of http"):
        asked(head, "runs/a")


def test_a_job_that_has_written_nothing_yet_is_told_all_the_same() -> None:
    head = Head("metarec: none there\n", 2, of("/work/runs/a", "train-1", "PENDING"))
    said = asked(head, "runs/a")
    assert said == "none there (asked on the head of http://head:8265); its job train-1: pending"


def test_a_head_that_does_not_answer_in_time_is_left_without_a_job() -> None:
    head = Head("", None)
    with pytest.raises(RunFailed, match="the head must say within 60 s how a run stands"):
        asked(head, "runs/a")
    assert head.jobs == {}
