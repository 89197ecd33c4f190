"""Send a job to a Ray cluster, follow its log, return its exit code.

Knows the Jobs API; does not know what a job does (`job`).
"""

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from metarec_ray.engine.cluster.job import CONFIG, ENTRYPOINT_CPUS, Job, Target
from metarec_ray.engine.cluster.surroundings import require_answer
from metarec_ray.errors import MachineError, RunFailed

# They log how the working directory is packed and which sockets close.
CHATTY = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging",
)


def send(job: Job, target: Target) -> str:
    """Submit the job and return its id."""
    client = _client(target.address)
    with tempfile.TemporaryDirectory(prefix="metarec-job-") as folder:
        runtime_env: dict[str, object] = {"env_vars": job.environment}
        if job.config is not None:
            Path(folder, CONFIG).write_text(job.config, "utf-8")
            runtime_env["working_dir"] = folder
        return client.submit_job(
            entrypoint=job.line(target.python),
            runtime_env=runtime_env,
            entrypoint_num_cpus=ENTRYPOINT_CPUS,
        )


def follow(job_id: str, target: Target, *, write: Callable[[str], object]) -> int:
    """Write the job's log as it grows; return the exit code of its verb once it has ended.

    After a broken connection it goes on where the log stopped.
    """
    client = _client(target.address)
    _details(client, job_id)
    written = 0
    while True:
        try:
            written = asyncio.run(_tail(client, job_id, written, write))
        except (ClientError, ConnectionError) as error:
            raise RunFailed(
                f"the cluster must stay reachable while a job is followed: {error}"
            ) from error
        details = _details(client, job_id)
        if JobStatus(details.status).is_terminal():
            return _exit_code(details)
        time.sleep(0.5)


def stop(job_id: str, target: Target) -> bool:
    """Ask the job to stop; return False if it had ended already."""
    client = _client(target.address)
    _details(client, job_id)
    return client.stop_job(job_id)


async def _tail(
    client: JobSubmissionClient, job_id: str, skip: int, write: Callable[[str], object]
) -> int:
    """Write the log after its first `skip` characters; return its length by now."""
    position = 0
    try:
        async for chunk in client.tail_job_logs(job_id):
            fresh = chunk[max(0, skip - position) :]
            position += len(chunk)
            if fresh:
                write(fresh)
    except RuntimeError:
        # Ray raises RuntimeError for a lost connection and for a job it does not know (yet);
        # `follow` asks for the job next, and that answer is certain.
        return max(position, skip)
    return max(position, skip)


def _exit_code(details: JobDetails) -> int:
    if details.status == JobStatus.SUCCEEDED:
        return 0
    if details.status == JobStatus.STOPPED:
        raise RunFailed(f"the job must run to its end, it was stopped: {details.submission_id}")
    if details.driver_exit_code is None:
        raise RunFailed(f"the job must start, it did not: {details.message}")
    return 2 if details.driver_exit_code == 2 else 1


def _details(client: JobSubmissionClient, job_id: str) -> JobDetails:
    try:
        return client.get_job_info(job_id)
    except RuntimeError:
        raise MachineError(f"a job must be known to the cluster, {job_id!r} is not") from None


def _client(address: str) -> JobSubmissionClient:
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Ray prefers these two to the address it is given, which `find_target` chose.
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        os.environ.pop(name, None)
    require_answer(address, "--address or RAY_API_SERVER_ADDRESS")
    try:
        return JobSubmissionClient(address)
    except ConnectionError:
        raise MachineError(f"a cluster must answer at the address, none does: {address}") from None
    except AuthenticationError:
        raise MachineError(
            f"a cluster asks for its token, ours is missing or another: {address} "
            "(RAY_AUTH_TOKEN_PATH)"
        ) from None
