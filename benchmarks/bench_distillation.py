"""What of a teacher's gain survives in a fast student: writes one result file.

    METAREC_DATA=DIR python -m benchmarks.bench_distillation [FOLDER]

MovieLens-1M as in jobs/configs/ml-1m-strict.yaml, everything fitted on the part `train` and judged
on validation users; no test user is looked at. The teacher adds up `windowed_ridge` and a
`transformer`. It is asked in two ways: as one blend of all training users, who are also those that
it is asked about (`train.teacher`), and cross-fitted, as two blends of half of the users each that
are asked about the other half: what an honest teacher would be worth. FOLDER keeps the store and
the teachers, which another run finds there.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.machine import write_result
from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import ALONE, FittedLearner
from metarec_ray.checkpoint import BUFFER, Checkpoint
from metarec_ray.config.experiment import Experiment, load, override
from metarec_ray.core.batch import Lane
from metarec_ray.core.histories import Histories
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.blend import blend
from metarec_ray.evaluation.table.statistics import Sample, bootstrap
from metarec_ray.evaluation.validation import Validation, validation
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.artifact import assemble
from metarec_ray.training.meta_step.distillation import SILENT, Teaching
from metarec_ray.training.teacher import Share, Teacher, teacher_of
from metarec_ray.training.trainer import Trainer

CONFIG = Path(__file__).parent.parent / "jobs" / "configs" / "ml-1m-strict.yaml"
FOLDS = 2
ATTENTION = {"train.tasks.ks": [10], "train.tasks.start_share": 0.5}
MEMBERS: dict[str, dict[str, Any]] = {
    "ridge": {"algorithm.name": "windowed_ridge"},
    "attention": {"algorithm.name": "transformer", "train.steps": 300, **ATTENTION},
}
STUDENTS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "bayesian_head": (
        (0, 1),
        {
            "algorithm.name": "bayesian_head",
            "model.dim": 32,
            "model.init_scale": 0.1,
            "train.steps": 200,
            "train.lane_tasks": 32,
            "train.weight_decay": 2.0,
            "train.reference_items": 512,
        },
    ),
    "transformer": (
        (0,),
        {
            "algorithm.name": "transformer",
            "train.steps": 200,
            "train.lane_tasks": 32,
            **ATTENTION,
        },
    ),
}
"""Of each student the seeds, and what it is: fewer and smaller steps than configured."""


class Way(NamedTuple):
    """How a student is taught: by which teachers, how much, and at the start of histories alone."""

    teachers: str
    weight: float
    starts: bool = False


WAYS: dict[str, Way | None] = {
    "alone": None,
    "teacher of all users, weight 1": Way("all", 1.0),
    "cross-fitted, weight 1": Way("folds", 1.0),
    "cross-fitted, weight 4": Way("folds", 4.0),
    "cross-fitted, weight 4, starts only": Way("folds", 4.0, starts=True),
}


def main() -> int:
    """Fit the teachers and every student; write the table; 2 without the log."""
    if "METAREC_DATA" not in os.environ:
        print("METAREC_DATA must be the folder of ml-1m/", file=sys.stderr)
        return 2
    experiment = override(
        load(CONFIG), {"train.parts": "train", "train.num_workers": 1, "blend.members": MEMBERS}
    )
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if sys.argv[1:] else temporary)
        if not (folder / "store").exists():
            log = read_log(experiment.data, data_dir=Path(os.environ["METAREC_DATA"]))
            build_store(log, experiment.data, folder / "store")
        store = TaskStore.open(folder / "store")
        judge = validation(experiment, store)
        teachers = _teachers(experiment, store, folder)
        lines = [_over_answering(experiment, store, teachers), "", _HEAD, ""]
        command = "python -m benchmarks.bench_distillation"
        # After each row: what is interrupted leaves those that it has measured.
        for line in _table(experiment, store, judge, teachers):
            print(line, flush=True)
            lines.append(line)
            write_result("distillation", "Students of a blend", command, "\n".join(lines))
    return 0


_HEAD = (
    "NDCG@10 of validation users, the whole catalogue ranked; means over seeds, in brackets the p "
    "of a paired bootstrap over users and seeds against the same student alone."
)


def _table(
    experiment: Experiment, store: TaskStore, judge: Validation, teachers: dict[str, list[Path]]
) -> Iterator[str]:
    """Yield the lines of the table of teachers and students."""
    ks = experiment.evaluate.ks
    yield f"| model | taught | {' | '.join(f'k = {k}' for k in ks)} |"
    yield "|---" * (2 + len(ks)) + "|"
    for name, paths in teachers.items():
        for path in paths:
            values = _qualities(Recommender.load(path), judge)
            yield f"| teacher ({name}) |  | {_cells([values], None, ks)} |"
    for student, (seeds, values) in STUDENTS.items():
        asked, alone = override(experiment, {"blend.members": {}, **values}), None
        for told, way in WAYS.items():
            found = []
            for seed in seeds:
                one = override(asked, {"run.seed": seed})
                found.append(_qualities(_student(one, store, way, teachers), judge))
            alone = alone or found
            cells = _cells(found, None if way is None else alone, ks)
            yield f"| {student} | {told} | {cells} |"


def _cells(
    found: list[dict[int, Tensor]], beside: list[dict[int, Tensor]] | None, ks: tuple[int, ...]
) -> str:
    """Return the mean of each k, and its p against the rows `beside`."""
    cells = []
    for k in ks:
        samples = [_sample(found, k)]
        cell = f"{samples[0].mean():.4f}"
        if beside is not None:
            drawn = bootstrap([*samples, _sample(beside, k)], resamples=2000, seed=0)
            cell += f" ({drawn.p_value(0, 1):.3f})"
        cells.append(cell)
    return " | ".join(cells)


def _sample(found: list[dict[int, Tensor]], k: int) -> Sample:
    values = torch.stack([one[k] for one in found])
    return Sample(values, torch.ones_like(values), tuple(range(len(found))))


def _qualities(model: Recommender, judge: Validation) -> dict[int, Tensor]:
    return {k: judge.quality(model.scores(judge.tasks.supports(k)), k) for k in judge.ks}


def _student(
    experiment: Experiment, store: TaskStore, way: Way | None, teachers: dict[str, list[Path]]
) -> Recommender:
    """Return a student after its last step."""
    trainer = Trainer(experiment, store)
    if way is not None:
        asked = [_opened(experiment, path, trainer) for path in teachers[way.teachers]]
        trainer.teaching = Teaching(way.weight)
        trainer.draw_from(_answered(trainer.sampler.share, asked, starts=way.starts))
    for _ in trainer.run(experiment.train.steps):
        pass
    return Recommender(trainer.checkpoint({}))


def _over_answering(
    experiment: Experiment, store: TaskStore, teachers: dict[str, list[Path]]
) -> str:
    """Return how likely teachers find the positives of training users, with and without them."""
    student = override(experiment, {"blend.members": {}, "train.tasks.start_share": 1.0})
    trainer, found = Trainer(student, store), {}
    for name, paths in teachers.items():
        asked = [_opened(student, path, trainer) for path in paths]
        share = _answered(trainer.sampler.share, asked, starts=False)
        total, count = 0.0, 0
        for step in range(5):
            for lane in share(0, step, 0, 1, lanes=2, lane_tasks=64).values():
                query = lane.tasks.query
                said = torch.log_softmax(lane.tasks.answers, 1).gather(1, query.item)[query.mask]
                total += said[said > SILENT].sum().item()
                count += int((said > SILENT).sum())
        found[name] = total / count
    text = (
        "Mean log-probability that a teacher gives the positives of training users at the start "
        f"of their histories: {found['all']:.3f} as one blend of all of them, {found['folds']:.3f} "
        "cross-fitted."
    )
    print(text, flush=True)
    return text


def _opened(experiment: Experiment, path: Path, student: Trainer) -> Teacher:
    asked = override(experiment, {"train.teacher": str(path)})
    found = teacher_of(asked, student.store, student.label_scale)
    assert found is not None
    return found


def _answered(share: Share, teachers: list[Teacher], *, starts: bool) -> Share:
    """Return the lanes of `share`, each task answered by the teacher that has not met its user."""

    def answers(lane: Lane) -> Lane:
        told = teachers[0].answers(lane)
        if len(teachers) > 1:
            # The teacher of a fold has learned from the users of that fold.
            other = (lane.entity % FOLDS == 0).unsqueeze(1)
            told = torch.where(other, teachers[1].answers(lane), told)
        if starts:
            told = torch.where(lane.tasks.begins.unsqueeze(1), told, SILENT)
        return lane._replace(tasks=lane.tasks._replace(answers=told))

    return lambda *at, **sizes: {n: answers(lane) for n, lane in share(*at, **sizes).items()}


def _teachers(experiment: Experiment, store: TaskStore, folder: Path) -> dict[str, list[Path]]:
    """Return the checkpoints of the blend of all training users, and of the blend of each fold."""
    whole = [_blend(experiment, store, lambda histories: histories, folder / "all")]
    folds = [
        _blend(experiment, store, partial(_of_fold, fold), folder / f"fold-{fold}")
        for fold in range(FOLDS)
    ]
    return {"all": whole, "folds": folds}


def _of_fold(fold: int, histories: Histories) -> Histories:
    return histories.keep(((histories.task_id % FOLDS) == fold)[histories.entity()])


def _blend(
    experiment: Experiment,
    store: TaskStore,
    kept: Callable[[Histories], Histories],
    path: Path,
) -> Path:
    """Save the blend of members that have learned from the entities that `kept` keeps."""
    if (path / checkpoints.COMMITTED).exists():
        return path
    started, members = time.perf_counter(), {}
    for name, member in experiment.members().items():
        fitted = _member(member, store, kept)
        members |= {f"{name}-train": fitted, f"{name}-final": fitted}
    found = blend(experiment, store, members, started=started)
    checkpoints.save(found, path)
    print(f"{path.name}: {time.perf_counter() - started:.0f} s", flush=True)
    return path


def _member(
    experiment: Experiment, store: TaskStore, kept: Callable[[Histories], Histories]
) -> Checkpoint:
    learner = experiment.algorithm
    if not isinstance(learner, FittedLearner):
        trainer = Trainer(experiment, store, statistics_from=kept)
        for _ in trainer.run(experiment.train.steps):
            pass
        return trainer.checkpoint({})
    histories = kept(store.histories(("train",)))
    scale = learner.label_scale(histories.label, store.manifest.feedback)
    model = learner.fit(scale.standardise_histories(histories), ALONE)
    trained = histories.met_items()
    return assemble(
        experiment,
        store,
        model | scale.buffers(BUFFER),
        trained=trained,
        step=0,
        optimizer={},
        metrics={},
    )


if __name__ == "__main__":
    sys.exit(main())
