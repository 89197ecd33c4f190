"""Tracking by MLflow's own client: in a data base, in a folder, at a server that misbehaves.

Skipped without the extra (`make test-extras` installs it).
"""

import importlib
import os
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.engine.tracking.delivery import Pace
from metarec_ray.engine.tracking.mlflow_client import SETTINGS, MlflowClient
from metarec_ray.engine.tracking.mlflow_sink import MlflowSink
from metarec_ray.engine.tracking.tracked import Status, Tracked, Undelivered
from metarec_ray.engine.tracking.tracking import Asked, tracked
from metarec_ray.engine.train.driver import train
from tests.integration.mlflow_server import Server, serving
from tests.unit.engine.tracking.played import run

pytestmark = [
    # Not importorskip: mlflow looks for its makers when it is imported, unless it is told not to.
    pytest.mark.skipif(find_spec("mlflow") is None, reason="no extra mlflow: make test-extras"),
    pytest.mark.filterwarnings("default"),  # of mlflow and what it brings; none is of ours
    pytest.mark.timeout(120),
]
STEPS = [5, 10, 15, 20]
SOON = Pace(every_s=0.05, again_s=0.05)


class Runs:
    """A run that is further each time it is looked at."""

    def __init__(self) -> None:
        self.status: Status = "running"
        self.looked = 0

    def known(self) -> Sequence[Tracked]:
        self.looked += 1
        ended = self.status != "running"
        return [run(20 if ended else min(20, 5 * self.looked), self.status)]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    for name in SETTINGS:  # what a client sets is unset afterwards
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def train_at(uri: str, folder: Path) -> Asked:
    return Asked("train", folder, uri)


def deliver(uri: str, folder: Path, *runs: Tracked) -> MlflowClient:
    client = MlflowClient(uri)
    MlflowSink(client, folder, uri=uri).deliver(runs)
    return client


@pytest.mark.parametrize("uri", ["sqlite:///{}/runs.db", "{}/mlruns", "file://{}/mlruns"])
def test_a_store_on_this_machine_has_one_run_with_every_line_once(tmp_path: Path, uri: str) -> None:
    uri = uri.format(tmp_path)
    deliver(uri, tmp_path, run(10))
    child = run(5, "failed", key="trial-0")
    client = deliver(uri, tmp_path, run(20, "finished"), child)
    tracking = importlib.import_module("mlflow.tracking")
    their = tracking.MlflowClient(tracking_uri=uri)
    parent, trial = their.search_runs([client.experiment], order_by=["start_time ASC"])
    assert (parent.info.run_name, parent.info.status) == ("a-run", "FINISHED")
    history = their.get_metric_history(parent.info.run_id, "query_loss")
    assert [(one.step, one.value, one.timestamp) for one in history] == [
        (step, 1 / step, 1000 * (100 + step)) for step in STEPS
    ]
    assert parent.data.params == {"train.steps": "20"}
    assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert trial.info.status == "FAILED"


def test_nothing_is_told_to_the_makers_of_mlflow(tmp_path: Path) -> None:
    MlflowClient(f"sqlite:///{tmp_path}/runs.db")
    telemetry = importlib.import_module("mlflow.telemetry")
    assert telemetry.get_telemetry_client() is None
    assert (os.environ["MLFLOW_DISABLE_TELEMETRY"], os.environ["DO_NOT_TRACK"]) == ("true", "true")


@pytest.mark.parametrize("every", [0, 2, 3])
def test_a_server_that_fails_now_and_then_has_every_line_once(tmp_path: Path, every: int) -> None:
    server, said = Server(), list[str]()
    server.every, runs = every, Runs()
    with (
        serving(server) as uri,
        tracked(runs, train_at(uri, tmp_path), said.append, pace=SOON),
    ):
        while not (server.runs and server.steps("run0", "query_loss")[-1:] == [20]):
            threading.Event().wait(0.01)
    assert len(said) <= 2  # once when it fails, and at the end if that fails too
    if said:
        assert "does not take what it is told, the run goes on" in said[0]
        assert "too many 500 error responses" in said[0]
    with serving(server) as uri:
        server.every = 0
        deliver(uri, tmp_path, run(20, "finished"))
    assert list(server.runs) == ["run0"]
    assert server.steps("run0", "query_loss") == server.steps("run0", "outer_lr") == STEPS
    assert server.runs["run0"]["status"] == "FINISHED"
    assert server.runs["run0"]["params"] == {"train.steps": "20"}


def test_answers_that_are_lost_make_no_second_run_and_no_second_line(tmp_path: Path) -> None:
    for lost in range(1, 10):
        server, folder = Server(), tmp_path / f"{lost}"
        server.lost = range(lost, lost + 1)
        with serving(server) as uri:
            with pytest.raises(Undelivered, match="too many 503 error"):
                deliver(uri, folder, run(20, "finished"))
            deliver(uri, folder, run(20, "finished"))
        assert list(server.runs) == ["run0"]
        assert server.steps("run0", "query_loss") == STEPS
        assert server.runs["run0"]["status"] == "FINISHED"


def test_a_server_that_is_slow_keeps_nobody_waiting_in_the_middle(tmp_path: Path) -> None:
    server, runs = Server(), Runs()
    server.delay_s = 0.2
    with serving(server) as uri:
        with tracked(runs, train_at(uri, tmp_path), print, pace=SOON):
            looked = runs.looked
            assert looked <= 1  # the block runs while the server is asked
        assert server.steps("run0", "query_loss") == STEPS
        assert server.runs["run0"]["status"] == "FINISHED"


def test_a_server_that_was_away_is_told_all_by_the_next_command(tmp_path: Path) -> None:
    server, said, runs = Server(), list[str](), Runs()
    with serving(server) as uri:
        port = int(uri.rpartition(":")[2])
    with tracked(runs, train_at(uri, tmp_path), said.append, pace=SOON):
        pass
    assert [line.partition(uri)[2].partition(" (")[0] for line in said] == [
        " does not take what it is told, the run goes on and it is told later",
        " has not been told all of it: the same command tells it the rest",
    ]
    with (
        serving(server, port),
        tracked(Runs(), train_at(uri, tmp_path), said.append, pace=SOON),
    ):
        pass
    assert len(said) == 2
    assert server.steps("run0", "query_loss") == STEPS


def experiment(folder: Path, store: Path, uri: str) -> Experiment:
    tree = {
        "run": {"dir": str(folder), "store": str(store)},
        "model": {"dim": 4},
        "algorithm": {"name": "fomaml"},
        "train": {"lanes": 2, "lane_tasks": 4, "steps": 20, "num_workers": 1},
    }
    tree["train"] |= {"checkpoint_every": 10, "log_every": 5, "mlflow": uri}
    return parse(tree, "the test")


@pytest.mark.ray
def test_a_training_and_the_same_command_again_are_one_run(
    ray_session: None, synthetic_store: Path, tmp_path: Path
) -> None:
    server = Server()
    server.every = 5
    with serving(server) as uri:
        asked = experiment(tmp_path, synthetic_store, uri)
        first = train(asked, data_dir=None, progress=print)
        server.every = 0
        again = train(asked, data_dir=None, progress=print)
    assert again == first
    assert list(server.runs) == ["run0"]
    kept = server.runs["run0"]
    assert server.steps("run0", "query_loss") == STEPS
    assert server.steps("run0", "seconds") == [20]
    assert kept["status"] == "FINISHED"
    assert kept["params"]["algorithm.name"] == "fomaml"
    assert kept["tags"]["metarec.parameters_sha256"] == first.parameters_sha256
    untold = override(asked, {"run.dir": str(tmp_path / "untold"), "train.mlflow": None})
    assert train(untold, data_dir=None, progress=print).parameters_sha256 == (
        first.parameters_sha256
    )
