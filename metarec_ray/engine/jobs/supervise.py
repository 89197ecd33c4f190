"""A job that submits another one, and submits it again when what ended it came from outside.

Knows how jobs end and whether a run's folder moves; does not know what a job does. A run resumes by
itself from its newest checkpoint.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ray.job_submission import JobDetails, JobStatus

from metarec_ray.data.files.paths import is_remote
from metarec_ray.engine.cluster.job import Job
from metarec_ray.engine.jobs.client import Jobs, Unreachable
from metarec_ray.engine.jobs.listing import is_ended, stop
from metarec_ray.engine.jobs.submit import SUPERVISOR, exit_code, follow_on, submit
from metarec_ray.errors import ConfigError, MachineError, MetarecError, RunFailed
from metarec_ray.storage.places import at_hand, bring
from metarec_ray.storage.uris import local
from metarec_ray.training.run_folder import events_log, movement

LOG_S = 10.0
"""The rest of an ended job's log is waited for so long."""
WRONG_INPUT = 2
REFUSED_S = 30.0
"""One that ran before and is refused is begun again after this, then after twice as long."""
KILLED = 128
"""A shell's exit code for a signal is this and the signal's number."""


class Policy(NamedTuple):
    """When a job is submitted again.

    Attributes:
        retries: how often in a row, without anything new that was kept.
        stalled_after_s: without a move in the run's folder for so long, it is stopped and submitted
            again; None for never.
        poll_s: between two looks.

    """

    retries: int
    stalled_after_s: float | None = None
    poll_s: float = 2.0


class Supervisor:
    """Holds one line of work: the job that runs now, and what is said about it."""

    def __init__(
        self,
        jobs: Jobs,
        job: Job,
        python: str,
        *,
        own_id: str,
        policy: Policy,
        say: Callable[[str], object],
        write: Callable[[str], object],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ):
        self.jobs, self.job, self.python, self.own_id = jobs, job, python, own_id
        self.policy, self.say, self.write = policy, say, write
        self.clock, self.sleep = clock, sleep
        self.folder = local(job.run) if job.run else None
        self.begun = 0

    def run(self) -> int:
        """Submit the job until it has ended by itself; return the exit code of its verb.

        Raises:
            RunFailed: the user has stopped it, or it failed too often without keeping anything new.
            KeyboardInterrupt: this process was told to end; the job was stopped.

        """
        try:
            return self._until_it_ends()
        except KeyboardInterrupt:
            self.say(f"supervisor: told to end, stops {self._child()} first")
            with suppress(MetarecError, RunFailed):
                self.jobs.ask_to_stop(self._child())
            raise

    def _until_it_ends(self) -> int:
        failed, kept = 0, self._kept()
        while True:
            child = self._submit()
            with _relayed(self.jobs, child, self.write):
                why = self._watch(child)
            before, kept = kept, self._kept()
            refused = why is None and self._is_refused(child) and (self.begun > 1 or kept > before)
            if why is None and not refused:
                return exit_code(self.jobs.details(child))
            why = why or "it was refused, which it was not before: a node or a disk may be missing"
            failed = 1 if kept > before else failed + 1
            if failed > self.policy.retries:
                raise RunFailed(
                    f"a supervised job may fail {self.policy.retries} times without keeping "
                    f"anything new, {child} was one too many: {why}"
                )
            self._tell(child, why, failed)
            if refused:
                self.sleep(REFUSED_S * 2 ** (failed - 1))

    def _is_refused(self, child: str) -> bool:
        return self.jobs.details(child).driver_exit_code == WRONG_INPUT

    def _child(self) -> str:
        return f"{self.own_id}-{self.begun}"

    def _submit(self) -> str:
        self.begun += 1
        # A sweep that has begun asks for it; no other verb takes it.
        again = self.job.verb == "tune" and self.begun > 1 and "--resume" not in self.job.words
        job = self.job._replace(words=[*self.job.words, *["--resume"] * again])
        child = self._child()
        submit(self.jobs, job, self.python, job_id=child, more={SUPERVISOR: self.own_id})
        self.say(f"supervisor: {child} begins")
        return child

    def _watch(self, child: str) -> str | None:
        """Return why the job must be submitted again, once it has ended; None if it must not."""
        since, silent = self.clock(), False
        while True:
            try:
                details = self.jobs.details(child)
            except Unreachable as error:
                if not silent:
                    self.say(f"supervisor: {error}; asking on")
                silent = True
                self.sleep(self.policy.poll_s)
                continue
            if is_ended(details):
                return reason(details)
            limit = self.policy.stalled_after_s
            if limit is not None:
                still = self.clock() - max(since, self._moved())
                if still > limit:
                    (ended,) = stop(self.jobs, child)
                    if ended.by_us:
                        return f"nothing moved in {self.job.run} for {still:.0f} s"
                    continue  # it ended by itself meanwhile
            self.sleep(self.policy.poll_s)

    def _tell(self, child: str, why: str, failed: int) -> None:
        count = f"{failed} of {self.policy.retries} without anything new"
        sentence = f"{child} is submitted again ({count}): {why}"
        self.say(f"supervisor: {sentence}")
        if self.folder is not None and self.folder.is_dir():
            with suppress(OSError, MachineError):  # a full disk is the run's own failure
                events_log.append(self.folder, "resubmitted", sentence)
                bring(self.folder / events_log.NAME)

    def _kept(self) -> float:
        return movement.kept(folder) if (folder := self._seen()) else 0.0

    def _moved(self) -> float:
        return movement.moved(folder) if (folder := self._seen()) else 0.0

    def _seen(self) -> Path | None:
        """Return the run's folder, after bringing here what other machines have written."""
        if self.folder is not None and is_remote(self.job.run):
            with suppress(MachineError):  # the run itself tells that its store does not answer
                at_hand(self.job.run)
        return self.folder


def reason(details: JobDetails) -> str | None:
    """Return what came from outside and ended a job; None if it ended by itself or by its user."""
    code = details.driver_exit_code
    if details.status in (JobStatus.SUCCEEDED, JobStatus.STOPPED) or code == WRONG_INPUT:
        return None
    if code is None:
        said = " ".join((details.message or "its process is gone").split())
        return said if len(said) <= 200 else f"{said[:197]}..."
    signal = -code if code < 0 else code - KILLED
    if signal > 0:
        return f"its process was ended by signal {signal}"
    return f"it failed with exit code {code}"


@contextmanager
def _relayed(jobs: Jobs, child: str, write: Callable[[str], object]) -> Iterator[None]:
    """Write the log of a job while a `with` block runs, and the rest of it afterwards."""

    def relay() -> None:
        # What breaks the connection is seen, and told, by who watches the job.
        with suppress(RunFailed, MetarecError):
            follow_on(jobs, child, write=write)

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    yield
    thread.join(LOG_S)


def supervising(job: Job, python: str, policy: Policy, own_id: str) -> Job:
    """Return the job that supervises a job, with the id by which it knows itself.

    Raises:
        ConfigError: the folder of such a job says nothing about whether it moves.

    """
    words = ["jobs", "supervise", "--id", own_id, "--verb", job.verb, "--run", job.run]
    words += ["--python", python, "--retries", str(policy.retries)]
    if policy.stalled_after_s is not None:
        if job.verb not in movement.WATCHED:
            raise ConfigError(
                "--stalled-after must be for a verb that writes while it runs, "
                f"{', '.join(movement.WATCHED)}, got {job.verb}"
            )
        words += ["--stalled-after", f"{policy.stalled_after_s:g}"]
    return job._replace(verb=f"supervise {job.verb}", words=[*words, "--", *job.words])
