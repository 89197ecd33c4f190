"""Workers on two machines whose host names mean loopback: the parameters of one process alone.

Nothing is measured; each test prints how long it and the failure in it took.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from metarec_ray import checkpoint as checkpoints
from metarec_ray.checkpoint import CHECKPOINTS, parameters_sha256
from metarec_ray.config.experiment import Experiment, dump, load, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.run_folder import events_log, metrics_log
from metarec_ray.training.run_folder.events_log import Event
from metarec_ray.training.segments import segments_of, train_segments
from metarec_ray.training.trainer import Trainer
from tests.chaos.two_nodes import NAMES, Nodes, impossible, kill, two_nodes, workers_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
STEPS = 400


class Run(NamedTuple):
    """A run that was submitted and has ended."""

    sha256: str
    said: str
    events: list[Event]


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    why = impossible()
    if why:
        pytest.skip(why)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with two_nodes(cpus=1) as found:
        yield found


@pytest.fixture(autouse=True)
def _time_of_the_test(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    begun = time.monotonic()
    yield
    with capsys.disabled():
        print(f" ({time.monotonic() - begun:.0f} s)", flush=True)


@pytest.fixture(scope="module")
def alone(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the parameters that one process computes, without Ray."""
    return by_one_process(config_of(tmp_path_factory.mktemp("alone"), synthetic_store))


def by_one_process(config: Path) -> str:
    experiment = load(config, [])
    trainer = Trainer(experiment, TaskStore.open(experiment.store))
    segments = segments_of(trainer, [experiment.train.steps])
    metrics = train_segments(segments, report=lambda _: None)
    return parameters_sha256(trainer.checkpoint(metrics).model)


def experiment_of(folder: Path, store: Path, **train: Any) -> Experiment:
    tree = {
        "run": {"dir": str(folder / "run"), "store": str(store)},
        "model": {"dim": 16},
        "train": {
            "steps": STEPS,
            "checkpoint_every": 40,
            "log_every": 20,
            "lane_tasks": 16,
            "num_workers": 2,
            "cpus_per_worker": 0.4,
            "placement": "spread",
            **train,
        },
    }
    return parse(tree, "the test")


def config_of(folder: Path, store: Path, **train: Any) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(dump(experiment_of(folder, store, **train)))
    return path


def send(nodes: Nodes, config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = ["submit", "train", str(config), "--address", nodes.dashboard, *words]
    return subprocess.run(
        [sys.executable, "-m", "metarec_ray", *line],
        env=nodes.environment | {"METAREC_HOME": os.environ["METAREC_HOME"]},
        capture_output=True,
        text=True,
        check=False,
    )


def submit(nodes: Nodes, config: Path, *words: str) -> Run:
    done = send(nodes, config, *words)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    run = config.parent / "run"
    found = max((run / CHECKPOINTS).glob("step-*"))
    return Run(parameters_sha256(checkpoints.load(found).model), said, list(events_log.read(run)))


def test_two_nodes_compute_what_one_process_does(
    nodes: Nodes, alone: str, synthetic_store: Path, tmp_path: Path
) -> None:
    run = submit(nodes, config_of(tmp_path, synthetic_store))
    assert [event.kind for event in run.events] == ["started"]
    assert sorted(run.events[0].nodes) == list(NAMES[:2])
    assert run.sha256 == alone


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_is_named_and_replaced(
    nodes: Nodes,
    alone: str,
    synthetic_store: Path,
    tmp_path: Path,
    fault: signal.Signals,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = config_of(tmp_path, synthetic_store)
    hit: list[tuple[float, psutil.Process]] = []
    hitting = threading.Thread(target=_hit, args=(nodes, tmp_path / "run", fault, hit))
    hitting.start()
    run = submit(nodes, config)
    hitting.join()
    (at, process) = hit[0]
    assert [event.kind for event in run.events] == ["started", "failed", "started"]
    first, failed, again = run.events
    if fault is signal.SIGSTOP:
        rank = first.nodes.index(NAMES[1])
        assert failed.sentence.startswith(f"rank {rank} on {NAMES[1]}: it hangs")
    assert f"train: failed: {failed.sentence}" in run.said
    assert sorted(again.nodes) == list(NAMES[:2])
    assert not process.is_running()
    assert run.sha256 == alone
    with capsys.disabled():
        print(f" told after {failed.time - at:.0f} s, on after {again.time - at:.0f} s", end="")


def test_a_node_that_dies_is_waited_for_and_the_run_goes_on(
    nodes: Nodes, alone: str, synthetic_store: Path, tmp_path: Path
) -> None:
    config, run = config_of(tmp_path, synthetic_store), tmp_path / "run"
    replacing = threading.Thread(target=_kill_and_begin_a_node, args=(nodes, run, _is_told, 45))
    replacing.start()
    # More than half a CPU each: both nodes are needed.
    done = submit(nodes, config, "--set", "train.cpus_per_worker=0.6")
    replacing.join()
    waiting = (
        r"train: waiting for a node, for 2 workers of 0.6 CPU; CPUs of living nodes: 1 on \S+$"
    )
    assert re.search(waiting, done.said, re.MULTILINE), done.said
    assert sorted(done.events[-1].nodes) == list(NAMES[:2])
    assert done.sha256 == alone


@pytest.mark.timeout(1500)  # it takes minutes, and one process computes all of it once more
def test_an_elastic_group_shrinks_and_grows_to_the_same_parameters(
    nodes: Nodes, synthetic_store: Path, tmp_path: Path
) -> None:
    more = {"steps": 4000, "checkpoint_every": 200, "num_workers": [1, 2], "cpus_per_worker": 0.6}
    config, run = config_of(tmp_path, synthetic_store, **more), tmp_path / "run"
    ending = threading.Thread(target=_kill_and_begin_a_node, args=(nodes, run, _goes_on, 0))
    ending.start()
    done = submit(nodes, config)
    ending.join()
    widths = [len(event.nodes) for event in done.events if event.kind == "started"]
    assert widths == [2, 1, 2]
    assert done.sha256 == by_one_process(config)


def test_a_node_that_is_cut_off_is_given_up_and_training_goes_on_without_it(
    nodes: Nodes, synthetic_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"steps": 1000, "num_workers": [1, 2], "cpus_per_worker": 0.6}
    config, run = config_of(tmp_path, synthetic_store, **more), tmp_path / "run"
    cut: list[float] = []
    cutting = threading.Thread(target=_cut_off, args=(nodes, run, cut))
    cutting.start()
    try:
        done = submit(nodes, config)
    finally:
        cutting.join()
        nodes.plug(1, True)
        nodes.end(1)
        nodes.begin(1)
    first, failed, again = done.events[:3]
    assert [one.kind for one in done.events[:3]] == ["started", "failed", "started"]
    assert sorted(first.nodes) == list(NAMES[:2])
    assert again.nodes == (NAMES[0],)
    assert done.sha256 == by_one_process(config)
    with capsys.disabled():
        told, on = failed.time - cut[0], again.time - cut[0]
        print(f" told after {told:.0f} s, on after {on:.0f} s", end="")


@pytest.mark.timeout(1500)
def test_a_worker_that_is_cut_off_and_goes_on_writes_nothing_once_another_has_begun(
    nodes: Nodes, synthetic_store: Path, tmp_path: Path
) -> None:
    # More than the head has beside the job: the worker is on the second node, then on the third.
    more = {"steps": 3000, "checkpoint_every": 100, "num_workers": 1, "cpus_per_worker": 0.95}
    config, run = config_of(tmp_path, synthetic_store, **more), tmp_path / "run"
    overlapped: list[bool] = []
    cutting = threading.Thread(target=_cut_off_and_replace, args=(nodes, run, overlapped))
    cutting.start()
    try:
        done = submit(nodes, config)
    finally:
        cutting.join()
        nodes.plug(1, True)
        nodes.end(2)
        nodes.end(1)
        nodes.begin(1)
    starts = [one for one in done.events if one.kind == "started"]
    assert [one.nodes for one in starts] == [(NAMES[1],), (NAMES[2],)]
    assert overlapped == [True]
    steps = [line["step"] for line in metrics_log.read(run / metrics_log.NAME)]
    assert steps == [*range(20, 3001, 20)]
    assert done.sha256 == by_one_process(config)


def _cut_off_and_replace(nodes: Nodes, run: Path, overlapped: list[bool]) -> None:
    """Cut the second node off, start a third; say whether the old worker ran beside the new one."""
    _cut_off(nodes, run, [])
    (old,) = workers_of(nodes, NAMES[1])
    nodes.begin(2)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not _goes_on([e.kind for e in events_log.read(run)]):
        time.sleep(0.05)
    overlapped.append(old.is_running() and old.status() != psutil.STATUS_ZOMBIE)


def _cut_off(nodes: Nodes, run: Path, cut: list[float]) -> None:
    """Cut the second node off once a checkpoint is there."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not any((run / CHECKPOINTS).glob("step-*/COMMITTED")):
        time.sleep(0.05)
    cut.append(time.time())
    nodes.plug(1, False)


def _kill_and_begin_a_node(
    nodes: Nodes, run: Path, known: Callable[[list[str]], bool], pause_s: float
) -> None:
    """End the second node once a checkpoint is there; start it when the kinds of events say so."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not any((run / CHECKPOINTS).glob("step-*/COMMITTED")):
        time.sleep(0.05)
    kill(nodes.heads[NAMES[1]])
    while time.monotonic() < deadline:
        if known([event.kind for event in events_log.read(run)]):
            time.sleep(pause_s)
            break
        time.sleep(0.5)
    nodes.begin(1)


def _is_told(kinds: list[str]) -> bool:
    return "failed" in kinds


def _goes_on(kinds: list[str]) -> bool:
    return kinds.count("started") > 1


def _hit(
    nodes: Nodes, run: Path, fault: signal.Signals, hit: list[tuple[float, psutil.Process]]
) -> None:
    """Send a signal to the worker of the second node once a checkpoint is there."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        found = workers_of(nodes, NAMES[1])
        if found and any((run / CHECKPOINTS).glob("step-*/COMMITTED")):
            hit.append((time.time(), found[0]))
            found[0].send_signal(fault)
            return
        time.sleep(0.02)


def test_workers_that_do_not_meet_try_again_and_say_what_to_do(
    synthetic_store: Path, tmp_path: Path
) -> None:
    config = config_of(tmp_path, synthetic_store)
    with two_nodes(cpus=1, GLOO_SOCKET_IFNAME="lo") as astray:
        done = send(astray, config, "--set", "train.max_failures=1")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert [event.kind for event in events_log.read(tmp_path / "run")] == ["failed", "failed"]
    last = next(line for line in said.splitlines() if line.startswith("metarec: "))
    assert "workers failed 2 times, train.max_failures is 1: " in last
    assert "workers must reach each other, rank " in last
    assert "set GLOO_SOCKET_IFNAME to the right interface" in last
    assert "Traceback" not in last
