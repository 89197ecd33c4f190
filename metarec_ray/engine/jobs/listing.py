"""The jobs of a cluster: what each is, and how one is stopped.

Knows what `submit` wrote into a job's metadata; does not know what a job does.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from ray.job_submission import JobDetails, JobStatus

from metarec_ray.engine.jobs.client import Jobs
from metarec_ray.engine.jobs.submit import RUN, SUPERVISOR, VERB
from metarec_ray.errors import RunFailed
from metarec_ray.storage.uris import local
from metarec_ray.training.run_folder import movement

STOP_S, PAUSE_S = 60.0, 0.3
"""A job that is asked to stop gets Ray's 3 s for it, and is killed then."""


class Entry(NamedTuple):
    """A job as it is listed.

    Attributes:
        id: of the job.
        verb: that it runs; None of a job that was not submitted by `metarec submit`.
        run: the folder that it writes.
        state: `pending`, `running`, `succeeded`, `failed`, `stopped`.
        started: seconds since 1970; None before it has begun.
        seconds: it has run for, or ran for.
        supervisor: the job that supervises it, if any.
        node: the id of the node that its process runs on, or ran on.

    """

    id: str
    verb: str | None
    run: str | None
    state: str
    started: float | None
    seconds: float | None
    supervisor: str | None
    node: str | None


class Stopped(NamedTuple):
    """A job that has ended: whether we did it, its verb and folder, where it can go on."""

    id: str
    by_us: bool
    verb: str | None
    run: str | None
    checkpoint: str | None

    def sentence(self) -> str:
        """Return what happened, and how the run goes on."""
        if not self.by_us:
            return f"{self.id} had ended already"
        said = f"{self.id} has stopped"
        if not self.run:
            return said
        at = f", newest checkpoint {self.checkpoint}" if self.checkpoint else ""
        resume = " with --resume" * (self.verb or "").endswith("tune")
        return f"{said}; the same line{resume} goes on in {self.run}{at}"


def entries(jobs: Jobs, *, clock: Callable[[], float] = time.time) -> list[Entry]:
    """Return the jobs of the cluster, oldest first."""
    return [_entry(one, clock()) for one in jobs.all()]


def stop(
    jobs: Jobs,
    job_id: str,
    *,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[Stopped]:
    """Stop a job, what it supervises before it; return all of them once they have ended.

    Raises:
        MachineError: the cluster does not know the job.
        RunFailed: a job has not ended in time.

    """
    jobs.details(job_id)
    ended: list[Stopped] = []

    def end(one: str) -> None:
        ended.append(_stop(jobs, one, sleep, clock))

    for child in _supervised(jobs, job_id):
        end(child)
    end(job_id)
    # Of one that it had just submitted again.
    for child in _supervised(jobs, job_id):
        end(child)
    return ended


def is_ended(details: JobDetails) -> bool:
    """Return whether a job will do nothing any more."""
    return JobStatus(details.status).is_terminal()


def _supervised(jobs: Jobs, job_id: str) -> list[str]:
    return [
        one.submission_id
        for one in jobs.all()
        if one.submission_id
        and (one.metadata or {}).get(SUPERVISOR) == job_id
        and not is_ended(one)
    ]


def _stop(
    jobs: Jobs, job_id: str, sleep: Callable[[float], object], clock: Callable[[], float]
) -> Stopped:
    by_us = jobs.ask_to_stop(job_id)
    deadline = clock() + STOP_S
    while not is_ended(details := jobs.details(job_id)):
        if clock() > deadline:
            raise RunFailed(
                f"a job must end within {STOP_S:.0f} s of being asked, {job_id} has not: "
                f"metarec jobs stop {job_id}"
            )
        sleep(PAUSE_S)
    by_us = by_us and details.status == JobStatus.STOPPED
    about = details.metadata or {}
    run = about.get(RUN) or None
    newest = movement.newest_checkpoint(local(run)) if run else None
    return Stopped(job_id, by_us, about.get(VERB), run, newest)


def _entry(one: JobDetails, now: float) -> Entry:
    about = one.metadata or {}
    started = None if one.start_time is None else one.start_time / 1000
    until = now if one.end_time is None else one.end_time / 1000
    return Entry(
        id=one.submission_id or "",
        verb=about.get(VERB),
        run=about.get(RUN) or None,
        state=str(JobStatus(one.status).value).lower(),
        started=started,
        seconds=None if started is None else round(max(0.0, until - started), 1),
        supervisor=about.get(SUPERVISOR),
        node=one.driver_node_id,
    )
