"""What a job carries, and how it is followed through what happens to a network; no Ray runs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from metarec_ray import __version__
from metarec_ray.engine.cluster.job import Job
from metarec_ray.engine.jobs.client import Unreachable
from metarec_ray.engine.jobs.submit import exit_code, follow_on, log_of, submit
from metarec_ray.errors import MachineError, RunFailed
from tests.unit.engine.jobs.played import ADDRESS, Cluster, details, played

JOB = Job("data append", ["data", "append", "config.yaml"], "run: {}\n", {"A": "b"}, "/runs/a")


def followed(cluster: Cluster, job_id: str = "one") -> tuple[int, str]:
    said: list[str] = []
    code = follow_on(played(cluster), job_id, write=said.append)
    return code, "".join(said)


def test_a_job_carries_its_line_its_variables_and_what_a_list_shows() -> None:
    cluster = Cluster()
    job_id = submit(played(cluster), JOB, "/venv/python")
    (sent,) = cluster.submitted
    assert job_id.startswith("data-append-")
    assert sent["entrypoint"] == "/venv/python -m metarec_ray data append config.yaml"
    assert sent["runtime_env"]["env_vars"] == {"A": "b"}
    about = {"metarec": __version__, "verb": "data append", "run": "/runs/a"}
    assert sent["metadata"] == about
    assert sent["entrypoint_num_cpus"] == 0.1


def test_a_log_is_written_once_over_broken_connections() -> None:
    cluster = Cluster(details("one"))
    cluster.logs["one"] = ["first\n", "sec", "BREAK", "ond\n", "BREAK", "third\n"]
    # Asked at the beginning, after each break, and at the end.
    cluster.script["one"] = [{}, {}, {}, {"status": "SUCCEEDED"}]
    assert followed(cluster) == (0, "first\nsecond\nthird\n")


@pytest.mark.parametrize(("driver", "code"), [(2, 2), (1, 1), (143, 1), (-9, 1)])
def test_the_exit_code_is_the_verbs(driver: int, code: int) -> None:
    assert exit_code(details("one", "FAILED", driver_exit_code=driver)) == code


def test_a_job_that_never_ran_says_why_in_one_line() -> None:
    failed = details("one", "FAILED", message="The node died:\n  raylet\n" + "x" * 400)
    with pytest.raises(RunFailed, match="it did not: The node died: raylet xxx") as told:
        exit_code(failed)
    assert len(str(told.value)) < 400


def test_a_short_silence_of_the_cluster_is_borne() -> None:
    cluster = Cluster(details("one", "SUCCEEDED"))
    cluster.logs["one"] = ["all\n"]
    cluster.broken = 2
    assert followed(cluster) == (0, "all\n")


def test_a_head_that_is_killed_while_followed_is_one_sentence() -> None:
    cluster = Cluster(details("one"))
    cluster.logs["one"] = ["first\n", "BREAK"]
    said: list[str] = []

    def write(text: str) -> None:
        said.append(text)
        cluster.broken = 10**9

    with pytest.raises(Unreachable) as told:
        follow_on(played(cluster), "one", write=write)
    assert said == ["first\n"]
    assert str(told.value) == (
        f"a cluster must stay reachable, {ADDRESS} does not answer any more (connection refused); "
        "if its head has ended its jobs have, too, and the same command on a new one resumes"
    )


def test_a_job_that_is_deleted_while_followed_is_one_sentence() -> None:
    cluster = Cluster(details("one"))
    cluster.logs["one"] = ["first\n", "BREAK"]
    with pytest.raises(MachineError, match="must be known to the cluster, 'one' is not"):
        follow_on(played(cluster), "one", write=lambda text: cluster.jobs.clear())


def test_a_silent_log_is_no_reason_to_read_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(details("one"))
    begun = []

    async def slow(job_id: str) -> AsyncIterator[str]:
        begun.append(job_id)
        yield "first\n"
        while cluster.asked.count("info one") < 4:
            await asyncio.sleep(0.005)
        cluster.change("one", status="SUCCEEDED")
        yield "second\n"

    monkeypatch.setattr(cluster, "tail_job_logs", slow)
    assert followed(cluster) == (0, "first\nsecond\n")
    assert begun == ["one"]


def test_a_network_that_falls_silent_ends_a_silent_log(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(details("one"))

    async def dead(job_id: str) -> AsyncIterator[str]:
        cluster.broken = 10**9
        await asyncio.sleep(3600)
        yield ""

    monkeypatch.setattr(cluster, "tail_job_logs", dead)
    with pytest.raises(Unreachable):
        followed(cluster)


def test_an_error_of_the_cluster_is_one_sentence() -> None:
    class Broken(Cluster):
        def submit_job(self, **what: Any) -> str:
            raise RuntimeError("Request failed with status code 500: Traceback\n  File x\n.")

    with pytest.raises(RunFailed, match=r"must take what it is asked, got: .* 500: Traceback File"):
        submit(played(Broken()), JOB, "python")


def test_a_job_without_a_log_yet_has_an_empty_one() -> None:
    cluster = Cluster(details("one", "PENDING"))
    assert log_of(played(cluster), "one") == ""
    with pytest.raises(MachineError, match="'two' is not"):
        log_of(played(cluster), "two")
