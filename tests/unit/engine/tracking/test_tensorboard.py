"""Event files: what is in them, and that no point is in them twice."""

from pathlib import Path

from metarec_ray.engine.tracking.tensorboard import TensorboardSink, held
from metarec_ray.engine.tracking.tracked import Tracked
from tests.unit.engine.tracking.played import run

STEPS = (5, 10, 15, 20)
WHOLE = sorted((name, step) for name in ("outer_lr", "query_loss") for step in STEPS)


def test_a_process_that_goes_on_writes_what_no_file_holds(tmp_path: Path) -> None:
    first = TensorboardSink(tmp_path)
    first.deliver([run(5)])
    first.deliver([run(10)])
    TensorboardSink(tmp_path).deliver([run(20)])
    TensorboardSink(tmp_path).deliver([run(20, "finished")])
    assert sorted(held(tmp_path)) == WHOLE
    assert len(list(tmp_path.iterdir())) == 2  # who has nothing to write makes no file


def test_half_a_record_of_a_process_that_was_killed_is_written_again(tmp_path: Path) -> None:
    TensorboardSink(tmp_path).deliver([run(20)])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    assert len(list(held(tmp_path))) == len(WHOLE) - 2
    TensorboardSink(tmp_path).deliver([run(20)])
    assert sorted(held(tmp_path)) == WHOLE


def test_what_belongs_to_a_run_has_a_folder_and_what_has_no_values_none(tmp_path: Path) -> None:
    empty = Tracked("", "a", {}, {}, [], "finished")
    TensorboardSink(tmp_path).deliver([empty, run(20, key="members/one")])
    assert [path.name for path in tmp_path.iterdir()] == ["members"]
    assert sorted(held(tmp_path / "members" / "one")) == WHOLE


def test_values_and_times_are_those_of_the_points(tmp_path: Path) -> None:
    from tensorboardX.proto import event_pb2

    from metarec_ray.engine.tracking import tensorboard

    TensorboardSink(tmp_path).deliver([run(5)])
    (path,) = tmp_path.iterdir()
    event_of = vars(event_pb2)["Event"].FromString
    events = [event_of(content) for content in tensorboard._records(path.read_bytes())]
    assert events[0].file_version == "brain.Event:2"
    (found,) = events[1:]
    assert (found.step, found.wall_time) == (5, 105.0)
    values = {value.tag: value.simple_value for value in found.summary.value}
    assert abs(values["query_loss"] - 1 / 5) < 1e-7
