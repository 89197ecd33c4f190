import shutil
from pathlib import Path

from metarec_ray.checkpoint import save, step_path
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.bench.cells import make_cell
from metarec_ray.evaluation.bench.lineup import Entry
from metarec_ray.training.fit import fit
from tests.unit.evaluation.bench.small import EASE, cell, experiment


def test_the_key_of_a_cell_is_that_of_everything_its_numbers_depend_on(
    store: TaskStore, tmp_path: Path
):
    base = cell(store, tmp_path, experiment())
    same = experiment(run={"dir": "elsewhere"}, bench={"seeds": 9})
    assert cell(store, tmp_path, same).key == base.key
    others = [
        cell(store, tmp_path, experiment(), seed=1),
        cell(store, tmp_path, experiment(train={"steps": 3})),
        cell(store, tmp_path, experiment(train={"augmentation": {}})),
        cell(store, tmp_path, experiment(), EASE._replace(overrides={"algorithm.name": "maml"})),
        cell(store, tmp_path, experiment(), EASE._replace(grid=({"algorithm.penalty": 1.0},))),
    ]
    assert len({base.key, *(other.key for other in others)}) == 6
    assert others[0].tuning_key == base.tuning_key
    manifest = store.manifest.model_copy(update={"feedback": "explicit"})
    relabelled = make_cell(
        "strict", EASE, experiment(), manifest,
        seed=0, store=store.path, folder=tmp_path, data_dir=None,
    )  # fmt: skip
    assert relabelled.key != base.key


def test_a_cell_is_made_anew_when_what_it_begins_with_was_trained_anew(
    store: TaskStore, tmp_path: Path
):
    entry = Entry("maml", "learner", {"algorithm.name": "maml"}, 1)
    keys = []
    for seed in (0, 1):
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        train = {"steps": 1, "lanes": 2, "lane_tasks": 2}
        source = experiment(train=train, run={"seed": seed}, algorithm={"name": "maml"})
        save(fit(source, store), step_path(tmp_path / "checkpoints", 1))
        asked = experiment(train={"init_from": str(tmp_path)})
        keys.append(cell(store, tmp_path, asked, entry).key)
    assert keys[0] != keys[1]
