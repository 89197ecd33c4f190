"""A cluster's Jobs API, whose failures are one sentence each.

Knows requests, the token and what may happen to a network; does not know what a job does.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any, TypeVar

from aiohttp import ClientError
from ray.dashboard.utils import get_address_for_submission_client
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from metarec_ray.engine.cluster.surroundings import require_answer
from metarec_ray.errors import MachineError, RunFailed

TIMEOUT_S = 30.0
"""Of a request, which Ray itself would wait for without end."""
PATIENCE_S, PAUSE_S = 15.0, 0.5
"""A cluster that does not answer is asked again for so long."""
SILENCE_S = 60.0
"""A log without news for so long: is the cluster still there?"""

# They log how the working directory is packed and which sockets close.
CHATTY = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging",
)

T = TypeVar("T")


class _Client(JobSubmissionClient):
    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        return super()._do_request(method, endpoint, **{"timeout": TIMEOUT_S, **options})


class Jobs:
    """The jobs of one cluster.

    Every method raises MachineError for a job that the cluster does not know, and RunFailed for a
    cluster that does not answer any more, or with an error.
    """

    def __init__(
        self,
        client: JobSubmissionClient,
        address: str,
        *,
        patience_s: float = PATIENCE_S,
        pause_s: float = PAUSE_S,
        silence_s: float = SILENCE_S,
    ):
        self.client, self.address = client, address
        self.patience_s, self.pause_s, self.silence_s = patience_s, pause_s, silence_s

    def submit(self, **what: Any) -> str:
        """Submit what `JobSubmissionClient.submit_job` takes; return the job's id."""
        return self._asked(lambda: self.client.submit_job(**what))

    def details(self, job_id: str) -> JobDetails:
        """Return what the cluster knows of a job; a broken connection is tried for a while."""
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                return self._asked(lambda: self.client.get_job_info(job_id), job_id)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(self.pause_s)

    def all(self) -> list[JobDetails]:
        """Return all submitted jobs that the cluster remembers, oldest first."""
        found = self._asked(self.client.list_jobs)
        submitted = [one for one in found if one.submission_id]
        return sorted(submitted, key=lambda one: one.start_time or 0)

    def ask_to_stop(self, job_id: str) -> bool:
        """Ask a job to stop; return False if it had ended already."""
        return self._asked(lambda: self.client.stop_job(job_id), job_id)

    def forget(self, job_id: str) -> None:
        """Remove an ended job from the cluster's list."""
        self._asked(lambda: self.client.delete_job(job_id), job_id)

    def log(self, job_id: str) -> str:
        """Return a job's whole log."""
        return self._asked(lambda: self.client.get_job_logs(job_id), job_id)

    def tail(self, job_id: str, skip: int, write: Callable[[str], object]) -> int:
        """Write the log after its first `skip` characters as it grows; return its length by now.

        Returns when the job has ended, or the connection broke: `details` says which.
        """
        return asyncio.run(self._tail(job_id, skip, write))

    async def _tail(self, job_id: str, skip: int, write: Callable[[str], object]) -> int:
        position = 0
        chunks = self.client.tail_job_logs(job_id)
        try:
            async for chunk in self._watched(chunks, job_id):
                fresh = chunk[max(0, skip - position) :]
                position += len(chunk)
                if fresh:
                    write(fresh)
        except (RuntimeError, ClientError, TimeoutError, ConnectionError) as error:
            # Of Ray, RuntimeError is a lost connection or a job it does not know (yet).
            if isinstance(error, RunFailed):
                raise
        return max(position, skip)

    async def _watched(self, chunks: AsyncIterator[str], job_id: str) -> AsyncIterator[str]:
        """Yield the chunks; while there are none, ask now and then whether the cluster is there."""
        while True:
            following = asyncio.ensure_future(anext(chunks))
            try:
                while not (await asyncio.wait({following}, timeout=self.silence_s))[0]:
                    self.details(job_id)
                chunk = following.result()
            except StopAsyncIteration:
                return
            finally:
                following.cancel()
            yield chunk

    def _asked(self, question: Callable[[], T], job_id: str | None = None) -> T:
        try:
            return question()
        except AuthenticationError:
            raise MachineError(_refused(self.address)) from None
        except OSError as error:  # all of requests' are
            raise Unreachable(
                f"a cluster must stay reachable, {self.address} does not answer any more "
                f"({_reason(error)}); if its head has ended its jobs have, too, and the same "
                "command on a new one resumes"
            ) from None
        except RuntimeError as error:
            if job_id is not None and "status code 404" in str(error):
                raise MachineError(
                    f"a job must be known to the cluster, {job_id!r} is not"
                ) from None
            said = " ".join(str(error).split())[:300]
            raise RunFailed(f"a cluster must take what it is asked, got: {said}") from None


class Unreachable(RunFailed):
    """The cluster does not answer any more."""


def connect(address: str) -> Jobs:
    """Return the jobs of the cluster whose dashboard is at the address.

    Raises:
        MachineError: none answers, or it does not take our token.

    """
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Ray prefers these two to the address it is given, which `find_target` chose.
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        os.environ.pop(name, None)
    require_answer(address, "--address or RAY_API_SERVER_ADDRESS")
    try:
        return Jobs(_Client(address), address)
    except AuthenticationError:
        raise MachineError(_refused(address)) from None
    except (OSError, RuntimeError, ValueError, KeyError):  # refused, or no dashboard of Ray
        raise MachineError(f"a cluster must answer at the address, none does: {address}") from None


def own_address(environ: MutableMapping[str, str]) -> str:
    """Return the address of the dashboard of the cluster that this process is a job of.

    Raises:
        MachineError: it is no job.

    """
    own = environ.get("RAY_ADDRESS")
    if not own:
        raise MachineError("a supervisor must be a job itself: metarec submit --supervise")
    environ.pop("RAY_API_SERVER_ADDRESS", None)
    try:
        return get_address_for_submission_client(own)
    except (OSError, RuntimeError, ValueError) as error:
        raise Unreachable(f"the cluster of this job must answer, got: {error} ({own})") from None


def _refused(address: str) -> str:
    return (
        f"a cluster asks for its token, ours is missing or another: {address} (RAY_AUTH_TOKEN_PATH)"
    )


def _reason(error: OSError) -> str:
    """Return why, without the addresses of objects that urllib3 puts there."""
    said = str(error)
    for reason in ("Connection refused", "timed out", "Connection reset", "No route to host"):
        if reason in said:
            return reason.lower()
    return type(error).__name__
