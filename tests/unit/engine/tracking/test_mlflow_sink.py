"""What MLflow is told: everything, once, of one run, whatever fails on the way."""

import json
from pathlib import Path

import pytest

from metarec_ray.engine.tracking.mlflow_sink import NAME, PARENT, MlflowSink
from metarec_ray.engine.tracking.tracked import FAILED_BY, Point, Tracked, Undelivered
from tests.unit.engine.tracking.played import Played, run

URI = "http://tracking:5000"


def sink(client: Played, folder: Path) -> MlflowSink:
    return MlflowSink(client, folder, uri=URI, clock=lambda: 0.0)


def test_a_run_is_told_as_it_goes_and_no_line_twice(tmp_path: Path) -> None:
    client = Played()
    to = sink(client, tmp_path)
    for steps in (0, 5, 5, 20):
        to.deliver([run(steps)])
    to.deliver([run(20, "finished")])
    (kept,) = client.runs.values()
    assert kept.params == {"train.steps": "20"}
    assert kept.tags["command"] == "x"
    assert kept.steps("query_loss") == kept.steps("outer_lr") == [5, 10, 15, 20]
    assert kept.metrics[1] == ("query_loss", 1 / 5, 5, 105.0)
    assert kept.status == "finished"
    calls = len(client.calls)
    to.deliver([run(20, "finished")])
    assert len(client.calls) == calls


def test_another_process_goes_on_with_the_same_run(tmp_path: Path) -> None:
    client = Played()
    sink(client, tmp_path).deliver([run(10, "killed")])
    (id,) = client.runs
    assert json.loads((tmp_path / NAME).read_text())["runs"] == {".": id}
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / NAME
    (tmp_path / NAME).rename(moved)
    to = sink(client, moved.parent)
    to.deliver([run(15)])
    assert client.runs[id].status == "running"
    to.deliver([run(20, "finished")])
    (kept,) = client.runs.values()
    assert kept.steps("query_loss") == [5, 10, 15, 20]
    assert kept.status == "finished"


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("lost", [False, True])
def test_whichever_call_fails_or_loses_its_answer_all_is_told_once(
    tmp_path: Path, lost: bool, again: bool
) -> None:
    whole = Played()
    sink(whole, tmp_path / "whole").deliver([run(20, "finished")])
    for number in range(1, len(whole.calls) + 1):
        client, folder = Played(), tmp_path / f"{number}"
        (client.lost if lost else client.fails).add(number)
        to = sink(client, folder)
        with pytest.raises(Undelivered):
            to.deliver([run(20, "finished")])
        (to if again else sink(client, folder)).deliver([run(20, "finished")])
        (kept,) = client.runs.values()
        assert kept.steps("query_loss") == [5, 10, 15, 20], number
        assert kept.params == {"train.steps": "20"}
        assert kept.status == "finished"


def test_a_run_that_was_created_late_is_deleted_and_the_first_one_stays(tmp_path: Path) -> None:
    client = Played()
    sink(client, tmp_path).deliver([run(5)])
    (first,) = client.runs
    client.create("a-run", client.runs[first].tags)  # a server that took its time
    sink(client, tmp_path).deliver([run(10)])
    assert list(client.runs) == [first]
    assert client.runs[first].steps("query_loss") == [5, 10]


def test_what_belongs_to_a_run_is_nested_and_when_finished_not_asked_about_again(
    tmp_path: Path,
) -> None:
    client = Played()
    sink(client, tmp_path).deliver([run(0), run(10, "finished", key="trial-0")])
    parent, trial = client.runs
    assert client.runs[trial].tags[PARENT] == parent
    client.calls.clear()
    again = [run(0), run(10, "finished", key="trial-0"), run(5, "failed", key="trial-1")]
    sink(client, tmp_path).deliver(again)
    assert client.calls.count("params") == 2  # of the parent and the new one
    assert len(client.runs) == 3


def test_a_command_that_is_refused_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    client = Played()
    sink(client, tmp_path).deliver([run(20, "finished")])
    to = sink(client, tmp_path)
    to.deliver([run(20)])
    to.deliver([run(20, "refused")])
    (kept,) = client.runs.values()
    assert kept.status == "finished"


def test_a_first_command_that_is_refused_or_a_kill_before_leaves_a_failed_run(
    tmp_path: Path,
) -> None:
    client = Played()
    sink(client, tmp_path).deliver([run(5)])  # and the process was killed
    sink(client, tmp_path).deliver([run(5, "refused")])
    (kept,) = client.runs.values()
    assert kept.status == "failed"


def test_why_it_failed_is_said_until_it_runs_again(tmp_path: Path) -> None:
    client = Played()
    failed = run(5, "failed")._replace(tags={FAILED_BY: "no space left"})
    sink(client, tmp_path).deliver([failed])
    (kept,) = client.runs.values()
    assert kept.tags[FAILED_BY] == "no space left"
    sink(client, tmp_path).deliver([run(10)])
    assert kept.tags[FAILED_BY] == ""


def test_many_lines_that_waited_are_told_in_pieces(tmp_path: Path) -> None:
    client = Played()
    to = sink(client, tmp_path)
    to.deliver([run(1250)])  # 250 lines
    assert client.calls.count("log") == 1 + 3 + 1  # parameters, lines, tags
    assert client.runs["run-0"].steps("query_loss") == list(range(5, 1251, 5))


def test_names_are_those_that_mlflow_takes(tmp_path: Path) -> None:
    client = Played()
    odd = Tracked("", "x", {"data.user.features.größe": "1"}, {}, [Point(0, {})], "finished")
    sink(client, tmp_path).deliver([odd])
    assert client.runs["run-0"].params == {"data.user.features.gr__e": "1"}
    assert client.runs["run-0"].metrics == []
