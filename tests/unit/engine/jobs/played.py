"""A cluster's Jobs API, played: states that follow each other, and connections that break."""

from collections.abc import AsyncIterator
from typing import Any

import requests
from ray.job_submission import JobDetails, JobType

from metarec_ray.engine.jobs.client import Jobs

ADDRESS = "http://head:8265"


def details(job_id: str, status: str = "RUNNING", **more: Any) -> JobDetails:
    """Return what the cluster knows of a job."""
    return JobDetails(
        type=JobType.SUBMISSION,
        submission_id=job_id,
        status=status,  # pyright: ignore[reportArgumentType]
        entrypoint="python -m metarec_ray",
        **more,
    )


class Cluster:
    """Answers as `JobSubmissionClient` does.

    Attributes:
        jobs: what it knows, by id; `stop_job` and `play` change it.
        script: of a job's id: what its status becomes each time that it is asked for.
        log: of a job's id: the chunks of its log.
        broken: how many of the next requests are not answered.
        asked: what was asked for, in order.
        submitted: what was sent.

    """

    def __init__(self, *jobs: JobDetails):
        self.jobs = {one.submission_id: one for one in jobs}
        self.script: dict[str, list[dict[str, Any]]] = {}
        self.logs: dict[str, list[str]] = {}
        self.broken = 0
        self.asked: list[str] = []
        self.submitted: list[dict[str, Any]] = []
        self.stops_at_once = True

    def get_job_info(self, job_id: str) -> JobDetails:
        self._answer("info", job_id)
        for change in self.script.get(job_id, [])[:1]:
            self.script[job_id].pop(0)
            self.change(job_id, **change)
        return self.jobs[job_id]

    def change(self, job_id: str, **change: Any) -> None:
        self.jobs[job_id] = JobDetails(**(self.jobs[job_id].model_dump() | change))

    def list_jobs(self) -> list[JobDetails]:
        self._answer("list", None)
        return list(self.jobs.values())

    def stop_job(self, job_id: str) -> bool:
        self._answer("stop", job_id)
        if self.jobs[job_id].status in ("SUCCEEDED", "FAILED", "STOPPED"):
            return False
        if self.stops_at_once:
            self.change(job_id, status="STOPPED")
        return True

    def delete_job(self, job_id: str) -> bool:
        self._answer("delete", job_id)
        del self.jobs[job_id]
        return True

    def submit_job(self, **what: Any) -> str:
        self._answer("submit", None)
        self.submitted.append(what)
        job_id = what["submission_id"]
        self.jobs[job_id] = details(job_id, metadata=what["metadata"])
        return job_id

    def get_job_logs(self, job_id: str) -> str:
        self._answer("logs", job_id)
        return "".join(self.logs.get(job_id, []))

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        self._answer("tail", job_id)
        for chunk in self.logs.get(job_id, []):
            if chunk == "BREAK":
                self.logs[job_id].remove(chunk)
                raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")
            yield chunk

    def _answer(self, what: str, job_id: str | None) -> None:
        self.asked.append(f"{what} {job_id or ''}".strip())
        if self.broken:
            self.broken -= 1
            raise requests.exceptions.ConnectionError(
                "HTTPConnectionPool(host='head'): <object at 0x7f> [Errno 111] Connection refused"
            )
        if job_id is not None and job_id not in self.jobs:
            raise RuntimeError(f"Request failed with status code 404: Job {job_id} does not exist.")


def played(cluster: Cluster) -> Jobs:
    """Return the jobs of a played cluster."""
    client: Any = cluster
    return Jobs(client, ADDRESS, patience_s=0.05, pause_s=0, silence_s=0.01)
