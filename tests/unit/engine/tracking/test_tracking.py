"""A block that is tracked: how it ended, and what is said where nobody listens."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from metarec_ray.engine.tracking.tensorboard import FOLDER, held
from metarec_ray.engine.tracking.tracked import Status, Tracked, command, unsecret
from metarec_ray.engine.tracking.tracking import Asked, tracked
from metarec_ray.errors import ConfigError, RunFailed
from metarec_ray.training.run_folder import events_log
from tests.unit.engine.tracking.played import run


class Runs:
    status: Status = "running"

    def known(self) -> Sequence[Tracked]:
        return [run(20, self.status)]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), "killed"),
        (RunFailed("workers failed"), "failed"),
        (ZeroDivisionError(), "failed"),
        (ConfigError("another configuration"), "refused"),
    ],
)
def test_how_a_block_ended_is_told(tmp_path: Path, error: BaseException, status: Status) -> None:
    runs = Runs()
    block = tracked(runs, Asked("train", tmp_path, None), print)

    def work() -> None:
        with block:
            assert runs.status == "running"
            raise error

    with pytest.raises(type(error)):
        work()
    assert runs.status == status
    with tracked(runs, Asked("train", tmp_path, None), print):
        pass
    assert runs.status == "finished"
    assert list(tmp_path.iterdir()) == []  # nobody was to be told


def test_event_files_are_written_below_the_folder(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "run"
    with tracked(Runs(), Asked("train", folder, None, tensorboard=True), said.append):
        pass
    assert len(list(held(folder / FOLDER))) == 8
    assert said == []


def test_who_does_not_take_it_is_said_once_and_at_the_end_what_is_missing(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / FOLDER).write_text("a file where a folder is to be")
    with tracked(Runs(), Asked("train", tmp_path, None, tensorboard=True), said.append):
        pass
    name = f"train.tensorboard {tmp_path / FOLDER}"
    assert said[0].startswith(f"tracking: {name} does not take what it is told, the run goes on")
    assert said[1:] == [
        f"tracking: {name} has not been told all of it: the same command tells it the rest"
    ]
    assert [event.kind for event in events_log.read(tmp_path)] == ["tracking"]
    assert list(events_log.read_own(tmp_path)) == []


def test_no_secret_is_told() -> None:
    environ = {"MLFLOW_TRACKING_PASSWORD": "pw1", "MLFLOW_TRACKING_TOKEN": "tk2"}
    said = "401 at http://me:secret@host/x\nof pw1 and tk2"
    assert unsecret(said, environ) == "401 at http://***@host/x of *** and ***"
    words = ["/site-packages/metarec_ray/__main__.py", "train", "--set", "data.path=s3://a:b@c/d"]
    assert command(words) == "metarec train --set data.path=s3://***@c/d"
