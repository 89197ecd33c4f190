"""What a supervisor submits again, and what it does not; no Ray runs, no time passes."""

import os
from pathlib import Path
from typing import Any

import pytest

from metarec_ray.checkpoint import CHECKPOINTS, COMMITTED, step_path
from metarec_ray.engine.bench import CELLS
from metarec_ray.engine.bench_cells import TUNED
from metarec_ray.engine.cluster.job import Job
from metarec_ray.engine.jobs.supervise import Policy, Supervisor, supervising
from metarec_ray.engine.train.driver import MEMBERS
from metarec_ray.engine.tune.driver import SWEEP
from metarec_ray.errors import ConfigError, RunFailed
from metarec_ray.training.run_folder import events_log, metrics_log, movement
from tests.unit.engine.jobs.played import Cluster, played

KILLED = {"status": "FAILED", "driver_exit_code": 137}
DONE = {"status": "SUCCEEDED", "driver_exit_code": 0}
LOST = {"status": "FAILED", "message": "Job supervisor actor died:\n The node died."}


TWICE = Policy(2)


class Played(Cluster):
    """Ends the jobs that are submitted as `ends` says, one after the other."""

    def __init__(self, *ends: dict[str, Any], folder: Path | None = None, keeps: bool = False):
        super().__init__()
        self.ends, self.folder, self.keeps = list(ends), folder, keeps
        self.now = 1000.0

    def submit_job(self, **what: Any) -> str:
        job_id = super().submit_job(**what)
        if self.keeps and self.folder is not None:
            self.keep(len(self.submitted))
        self.change(job_id, **self.ends.pop(0))
        return job_id

    def keep(self, step: int) -> None:
        assert self.folder is not None
        made = self.folder / "checkpoints" / f"step-{step:08d}"
        made.mkdir(parents=True)
        os.utime(made, (self.now + step, self.now + step))


def supervised(
    cluster: Played, folder: Path, policy: Policy = TWICE, verb: str = "train"
) -> tuple[list[str], Supervisor]:
    said: list[str] = []

    def sleep(seconds: float) -> None:
        cluster.now += seconds

    job = Job(verb, [verb, "config.yaml"], "run: {}\n", {"METAREC_DATA": "/data"}, str(folder))
    return said, Supervisor(
        played(cluster),
        job,
        "/venv/python",
        own_id="train-1",
        policy=policy,
        say=said.append,
        write=lambda text: None,
        clock=lambda: cluster.now,
        sleep=sleep,
    )


def test_a_killed_driver_and_a_lost_node_are_begun_again_and_told(tmp_path: Path) -> None:
    cluster = Played(KILLED, LOST, DONE)
    said, supervisor = supervised(cluster, tmp_path)
    assert supervisor.run() == 0
    assert said == [
        "supervisor: train-1-1 begins",
        "supervisor: train-1-1 is submitted again (1 of 2 without anything new): its process was "
        "ended by signal 9",
        "supervisor: train-1-2 begins",
        "supervisor: train-1-2 is submitted again (2 of 2 without anything new): Job supervisor "
        "actor died: The node died.",
        "supervisor: train-1-3 begins",
    ]
    events = list(events_log.read(tmp_path))
    assert [event.kind for event in events] == ["resubmitted"] * 2
    assert events[0].sentence == said[1].removeprefix("supervisor: ")
    first, *_, last = cluster.submitted
    assert (
        first["entrypoint"] == last["entrypoint"] == "/venv/python -m metarec_ray train config.yaml"
    )
    assert last["metadata"]["supervisor"] == "train-1"
    assert last["runtime_env"]["env_vars"] == {"METAREC_DATA": "/data"}


def test_a_wrong_configuration_is_not_tried_again(tmp_path: Path) -> None:
    cluster = Played({"status": "FAILED", "driver_exit_code": 2})
    _, supervisor = supervised(cluster, tmp_path)
    assert supervisor.run() == 2
    assert len(cluster.submitted) == 1


def test_one_that_ran_and_is_refused_then_waits_for_what_is_missing(tmp_path: Path) -> None:
    # The node of the driver and of a worker is gone: there are too few CPUs until it is back.
    refused = {"status": "FAILED", "driver_exit_code": 2}
    cluster = Played(LOST, refused, DONE)
    said, supervisor = supervised(cluster, tmp_path)
    assert supervisor.run() == 0
    assert "train-1-2 is submitted again (2 of 2 without anything new): it was refused" in said[3]
    assert cluster.now == 1000 + 30 * 2
    cluster = Played(*[LOST, refused, refused, refused])
    with pytest.raises(RunFailed, match=r"train-1-3 was one too many: it was refused, which"):
        supervised(cluster, tmp_path)[1].run()
    # What a first one kept was no wrong input, whatever it ended with.
    cluster = Played(refused, DONE, folder=tmp_path, keeps=True)
    assert supervised(cluster, tmp_path)[1].run() == 0


def test_what_the_user_stopped_stays_stopped(tmp_path: Path) -> None:
    cluster = Played({"status": "STOPPED"})
    with pytest.raises(RunFailed, match="it was stopped: train-1-1"):
        supervised(cluster, tmp_path)[1].run()
    assert len(cluster.submitted) == 1


def test_failures_without_anything_new_are_counted(tmp_path: Path) -> None:
    cluster = Played(*[{"status": "FAILED", "driver_exit_code": 1}] * 9)
    with pytest.raises(RunFailed, match=r"2 times .* new, train-1-3 was one too many: .* code 1"):
        supervised(cluster, tmp_path)[1].run()
    assert len(cluster.submitted) == 3


def test_a_new_checkpoint_begins_the_count_anew(tmp_path: Path) -> None:
    cluster = Played(*[KILLED] * 6, DONE, folder=tmp_path, keeps=True)
    assert supervised(cluster, tmp_path, Policy(1))[1].run() == 0
    assert len(cluster.submitted) == 7


def test_a_run_that_does_not_move_is_stopped_and_begun_again(tmp_path: Path) -> None:
    cluster = Played({}, DONE, folder=tmp_path)
    said, supervisor = supervised(cluster, tmp_path, Policy(2, stalled_after_s=60))
    assert supervisor.run() == 0
    assert cluster.jobs["train-1-1"].status == "STOPPED"
    assert cluster.now == pytest.approx(1062)
    assert said[1].endswith(f"nothing moved in {tmp_path} for 62 s")


def test_a_run_that_moves_is_left_alone(tmp_path: Path) -> None:
    class Moving(Played):
        def get_job_info(self, job_id: str):
            if self.now < 1300:
                (tmp_path / "metrics.jsonl").touch()
                os.utime(tmp_path / "metrics.jsonl", (self.now, self.now))
            elif self.jobs[job_id].status == "RUNNING":
                self.change(job_id, **DONE)
            return super().get_job_info(job_id)

    cluster = Moving({})
    assert supervised(cluster, tmp_path, Policy(2, stalled_after_s=60))[1].run() == 0
    assert "stop train-1-1" not in cluster.asked


def test_a_sweep_that_is_begun_again_resumes(tmp_path: Path) -> None:
    cluster = Played(KILLED, DONE)
    assert supervised(cluster, tmp_path, verb="tune")[1].run() == 0
    lines = [one["entrypoint"].partition("metarec_ray ")[2] for one in cluster.submitted]
    assert lines == ["tune config.yaml", "tune config.yaml --resume"]


def test_told_to_end_it_stops_its_job(tmp_path: Path) -> None:
    cluster = Played({})
    _, supervisor = supervised(cluster, tmp_path)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    supervisor.sleep = interrupted
    with pytest.raises(KeyboardInterrupt):
        supervisor.run()
    assert cluster.jobs["train-1-1"].status == "STOPPED"


def test_a_dashboard_that_is_away_for_a_while_ends_nothing(tmp_path: Path) -> None:
    class Away(Played):
        def get_job_info(self, job_id: str):
            if self.now < 1010:
                self.broken = 1
            return super().get_job_info(job_id)

    cluster = Away(DONE)
    said, supervisor = supervised(cluster, tmp_path)
    assert supervisor.run() == 0
    assert len([line for line in said if "does not answer" in line]) == 1


def test_a_supervisor_is_a_job_on_the_head_with_the_line_inside() -> None:
    job = Job("bench", ["bench", "config.yaml", "--seeds", "3"], "run: {}", {}, "/runs/a")
    made = supervising(job, "python", Policy(3, 90.0), "bench-7")
    assert made.line("python") == (
        "python -m metarec_ray jobs supervise --id bench-7 --verb bench --run /runs/a --python "
        "python --retries 3 --stalled-after 90 -- bench config.yaml --seeds 3"
    )
    assert (made.verb, made.config, made.run) == ("supervise bench", "run: {}", "/runs/a")
    with pytest.raises(ConfigError, match=r"--stalled-after must be for a verb .*, got prepare"):
        supervising(job._replace(verb="prepare"), "python", Policy(3, 90.0), "x")


@pytest.mark.parametrize(
    ("path", "keeps"),
    [
        ("checkpoints/step-00000100", True),
        ("members/a/checkpoints/step-00000100", True),
        ("bench/melu/cells/ease-s0-1.json", True),
        ("cells/ease-s0-1.json", True),
        ("sweep/trial_1/checkpoint_000000", True),
        ("metrics.jsonl", False),
        ("members/a/metrics.jsonl", False),
        ("events.jsonl", False),
        ("sweep/trial_1/result.json", False),
    ],
)
def test_what_a_run_writes_moves_it(path: str, keeps: bool, tmp_path: Path) -> None:
    assert (movement.moved(tmp_path), movement.kept(tmp_path)) == (0, 0)
    (tmp_path / path).mkdir(parents=True)
    os.utime(tmp_path / path, (5, 5))
    assert movement.moved(tmp_path) == 5
    assert movement.kept(tmp_path) == (5 if keeps else 0)


def test_names_of_files_are_those_that_runs_write() -> None:
    assert (CHECKPOINTS, COMMITTED, MEMBERS) == ("checkpoints", "COMMITTED", "members")
    assert step_path(Path(), 1).name.startswith("step-")
    assert (CELLS, TUNED, SWEEP) == ("cells", "tuned", "sweep")
    assert (metrics_log.NAME, events_log.NAME) == ("metrics.jsonl", "events.jsonl")
