"""How a run on a cluster stands, whose folder this machine may not see: asked on the head.

A job without a CPU of its own reads the folder there, as `metarec status` does here, and is removed
from the list again. Does not know what is in the folder.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress

from metarec_ray.engine.cluster.job import Job
from metarec_ray.engine.jobs.client import Jobs
from metarec_ray.engine.jobs.listing import Entry, entries, is_ended, stop
from metarec_ray.engine.jobs.submit import exit_code, log_of, submit
from metarec_ray.errors import DataError, MetarecError, RunFailed

VERB = "status"
ANSWER_S, PAUSE_S = 60.0, 0.3
"""A job takes some seconds to start, more on a busy head."""
_REFUSED = "metarec: "


def status(
    jobs: Jobs,
    python: str,
    subject: str,
    folder: str,
    *,
    as_json: bool,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Return how a run stands in one line, or as a JSON object; with its newest job, if any.

    Args:
        jobs: of the cluster.
        python: the cluster's interpreter.
        subject: what was asked for: perhaps a job's id, whose run is meant then.
        folder: it as an absolute path, if it is none.
        as_json: an object instead of a sentence.
        sleep: waits.
        clock: seconds of any beginning.

    Raises:
        DataError: the head sees no run there, and no job was submitted for one.
        RunFailed: the head has not answered.

    """
    known = [one for one in entries(jobs) if one.verb != VERB]
    named = [one for one in known if one.id == subject]
    run = (named[0].run if named else None) or folder
    about = named or [one for one in known if one.run == run]
    newest = about[-1] if about else None
    try:
        said = _asked(jobs, python, run, as_json, sleep, clock)
    except DataError as error:
        if newest is None:
            raise
        said = json.dumps({"run": run, "refused": str(error)}) if as_json else f"{error}"
    return _with_job(said, newest, as_json)


def _with_job(said: str, job: Entry | None, as_json: bool) -> str:
    if as_json:
        return json.dumps(json.loads(said) | {"job": job._asdict() if job else None})
    return f"{said}; its job {job.id}: {job.state}" if job else said


def _asked(
    jobs: Jobs,
    python: str,
    run: str,
    as_json: bool,
    sleep: Callable[[float], object],
    clock: Callable[[], float],
) -> str:
    words = [VERB, run, *["--json"] * as_json]
    job_id = submit(jobs, Job(VERB, words, None, {}, run), python, cpus=0)
    try:
        deadline = clock() + ANSWER_S
        while not is_ended(details := jobs.details(job_id)):
            if clock() > deadline:
                raise RunFailed(
                    f"the head must say within {ANSWER_S:.0f} s how a run stands, it has not: "
                    "metarec jobs says whether it is busy"
                )
            sleep(PAUSE_S)
        lines = [line for line in log_of(jobs, job_id).splitlines() if line.strip()]
        last = lines[-1] if lines else ""
        code = exit_code(details)
    finally:
        with suppress(MetarecError, RunFailed):
            stop(jobs, job_id)
            jobs.forget(job_id)
    if code == 0:
        return last
    told = last.removeprefix(_REFUSED)
    if code == 2:
        raise DataError(f"{told} (asked on the head of {jobs.address})")
    raise RunFailed(f"the head must be able to read a run, it could not: {told}")
