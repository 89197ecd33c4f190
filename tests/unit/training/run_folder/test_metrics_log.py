import json
from pathlib import Path

from metarec_ray.training.run_folder.metrics_log import Progress, append, forget_after, read, render


def progress(step: int) -> Progress:
    return Progress(step, 100, 1.5, "query_ndcg@10", 0.25, 1234.56, 0.01)


def written(path: Path, steps: list[int]) -> Path:
    for step in steps:
        append(path, progress(step))
    return path


def test_every_line_is_one_json_object(tmp_path: Path) -> None:
    path = written(tmp_path / "metrics.jsonl", [20, 40])
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert lines == list(read(path))
    assert lines[0] == {
        "step": 20,
        "steps": 100,
        "query_loss": 1.5,
        "query_ndcg@10": 0.25,
        "tasks_per_s": 1234.6,
        "outer_lr": 0.01,
    }


def test_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert list(read(tmp_path / "none.jsonl")) == []
    forget_after(tmp_path / "none.jsonl", 5)
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "metrics.jsonl", [20, 40])
    whole = path.read_bytes()
    for end in range(len(whole) // 2, len(whole)):
        path.write_bytes(whole[:end])
        assert [line["step"] for line in read(path)] == [20]


def test_a_torn_line_is_left_out_and_those_after_it_are_not(tmp_path: Path) -> None:
    path = written(tmp_path / "metrics.jsonl", [20])
    with path.open("a") as file:
        file.write('{"step": 40, "st')
    written(path, [60, 80])
    assert [line["step"] for line in read(path)] == [20, 60, 80]


def test_a_resumed_run_forgets_the_steps_it_takes_again(tmp_path: Path) -> None:
    path = written(tmp_path / "metrics.jsonl", [20, 40, 60])
    with path.open("a") as file:
        file.write('{"step": 80, "st')
    forget_after(path, 40)
    assert [line["step"] for line in read(path)] == [20, 40]
    written(path, [60])
    assert [line["step"] for line in read(path)] == [20, 40, 60]
    assert [child.name for child in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_line_for_people_names_step_loss_metric_and_speed(tmp_path: Path) -> None:
    [line] = read(written(tmp_path / "metrics.jsonl", [20]))
    assert render(line) == "step 20/100  loss 1.5000  query_ndcg@10 0.2500  1,235 tasks/s"
