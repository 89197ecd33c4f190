"""Send a job to a Ray cluster, follow its log, return its exit code.

Knows what a job carries and how it ends; does not know what it does (`plan`), nor what may happen
to a network (`client`).
"""

import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ray.job_submission import JobDetails, JobStatus

from metarec_ray import __version__
from metarec_ray.engine.cluster.job import CONFIG, ENTRYPOINT_CPUS, Job, Target
from metarec_ray.engine.jobs.client import Jobs, connect
from metarec_ray.errors import MetarecError, RunFailed

VERSION, VERB, RUN, SUPERVISOR = "metarec", "verb", "run", "supervisor"
"""Keys of a job's metadata: of our version, and of what `jobs list` shows."""


def send(job: Job, target: Target, *, job_id: str | None = None, on_head: bool = False) -> str:
    """Submit the job and return its id; its own process can be kept to the head."""
    cpus = 0.0 if on_head else ENTRYPOINT_CPUS
    return submit(connect(target.address), job, target.python, job_id=job_id, cpus=cpus)


def new_id(verb: str) -> str:
    """Return an id for a job that no other job has.

    >>> new_id("data append")[:12]
    'data-append-'
    """
    return f"{verb.replace(' ', '-')}-{secrets.token_hex(4)}"


def submit(
    jobs: Jobs,
    job: Job,
    python: str,
    *,
    job_id: str | None = None,
    cpus: float = ENTRYPOINT_CPUS,
    more: Mapping[str, str] | None = None,
) -> str:
    """Submit the job and return its id.

    Args:
        jobs: of the cluster.
        job: what is sent.
        python: the cluster's interpreter.
        job_id: None for a new one.
        cpus: of the job's own process; with 0 Ray runs it on the head.
        more: metadata beside that of every job.

    """
    with tempfile.TemporaryDirectory(prefix="metarec-job-") as folder:
        runtime_env: dict[str, object] = {"env_vars": job.environment}
        if job.config is not None:
            Path(folder, CONFIG).write_text(job.config, "utf-8")
            runtime_env["working_dir"] = folder
        return jobs.submit(
            entrypoint=job.line(python),
            runtime_env=runtime_env,
            submission_id=job_id or new_id(job.verb),
            entrypoint_num_cpus=cpus or None,
            metadata={VERSION: __version__, VERB: job.verb, RUN: job.run, **(more or {})},
        )


def follow(job_id: str, target: Target, *, write: Callable[[str], object]) -> int:
    """Write the job's log as it grows; return the exit code of its verb once it has ended.

    After a broken connection it goes on where the log stopped.
    """
    return follow_on(connect(target.address), job_id, write=write)


def follow_on(jobs: Jobs, job_id: str, *, write: Callable[[str], object]) -> int:
    """Follow a job of a cluster that is connected, as `follow` does."""
    jobs.details(job_id)
    written = 0
    while True:
        written = jobs.tail(job_id, written, write)
        details = jobs.details(job_id)
        if JobStatus(details.status).is_terminal():
            return exit_code(details)
        time.sleep(jobs.pause_s)


def exit_code(details: JobDetails) -> int:
    """Return the exit code of an ended job's verb: 0, 1 or 2.

    Raises:
        RunFailed: the job was stopped, or never ran.

    """
    if details.status == JobStatus.SUCCEEDED:
        return 0
    if details.status == JobStatus.STOPPED:
        raise RunFailed(f"the job must run to its end, it was stopped: {details.submission_id}")
    if details.driver_exit_code is None:
        raise RunFailed(f"a job must start and end by itself, it did not: {_message(details)}")
    return 2 if details.driver_exit_code == 2 else 1


def log_of(jobs: Jobs, job_id: str) -> str:
    """Return the log of a job so far; "" of one that has none yet."""
    jobs.details(job_id)
    try:
        return jobs.log(job_id)
    except MetarecError:  # no log, which Ray does not tell from no job
        return ""


def _message(details: JobDetails) -> str:
    said = " ".join((details.message or "").split())
    return said if len(said) <= 300 else f"{said[:297]}..."
