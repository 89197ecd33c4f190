"""What is told of a training, from the files of its folder."""

from pathlib import Path

from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.store.manifest import load
from metarec_ray.engine.train.tracked import TrainingRuns
from metarec_ray.training.run_folder import metrics_log
from metarec_ray.training.run_folder.metrics_log import Progress

WORDS = ("metarec", "train", "x.yaml")


def experiment(folder: Path, **keys: object) -> Experiment:
    return override(parse({"run": {"dir": str(folder)}}, "the test"), dict(keys))


def write(folder: Path, *steps: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        line = Progress(step, 40, 1 / step, "query_ndcg@10", 0.5, 30.0, 0.01)
        metrics_log.append(folder / metrics_log.NAME, line)


def test_a_run_is_its_lines_its_settings_and_its_result(
    synthetic_store: Path, tmp_path: Path
) -> None:
    now = [100.0]
    manifest = load(synthetic_store)
    asked = experiment(tmp_path, **{"train.steps": 40})
    runs = TrainingRuns(asked, manifest, words=WORDS, clock=lambda: now[0])
    assert [one.points for one in runs.known()] == [[]]
    write(tmp_path, 20)
    runs.known()
    now[0] = 200.0
    write(tmp_path, 40)
    checkpoint = tmp_path / "checkpoints" / "step-00000040"
    last = {"query_loss": 1 / 40, "query_ndcg@10": 0.5, "seconds": 12.5}
    runs.finish(checkpoint, last, "abc")
    (own,) = runs.known()
    line = {"query_ndcg_at_10": 0.5, "tasks_per_s": 30.0, "outer_lr": 0.01}
    assert [(point.step, point.values, point.time) for point in own.points] == [
        (20, {**line, "query_loss": 1 / 20}, 100.0),
        (40, {**line, "query_loss": 1 / 40}, 200.0),
        (40, {"seconds": 12.5}, 200.0),
    ]
    assert list(own.points[0].values)[-1] == "query_loss"
    assert (own.name, own.status) == (tmp_path.name, "running")
    assert own.params["train.steps"] == "40"
    assert own.params["algorithm.name"] == "bayesian_head"
    assert own.tags["metarec.command"] == "metarec train x.yaml"
    assert own.tags["metarec.store_sha256"] == manifest.store_sha256
    assert own.tags["metarec.source_fingerprint"] == manifest.source_fingerprint
    assert own.tags["metarec.checkpoint"] == str(checkpoint)
    assert own.tags["metarec.parameters_sha256"] == "abc"


def test_members_are_runs_of_the_run(synthetic_store: Path, tmp_path: Path) -> None:
    members = {"head": {}, "tree": {"algorithm.name": "windowed_ridge"}}
    asked = experiment(tmp_path, **{"blend.members": members})
    runs = TrainingRuns(asked, load(synthetic_store), words=WORDS)
    write(tmp_path / "members" / "head", 20)
    (tmp_path / "members" / "tree").mkdir()
    runs.status = "finished"
    own, head, tree = runs.known()
    assert (own.key, head.key, tree.key) == ("", "members/head", "members/tree")
    assert [point.step for point in head.points] == [20]
    assert tree.params == {"algorithm.name": "windowed_ridge"}
    assert {own.status, head.status, tree.status} == {"finished"}
