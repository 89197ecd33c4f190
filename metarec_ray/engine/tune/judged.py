"""What a trial trains, and on whom each of it is judged: once, or once without each fold.

Knows entities and what a fit may have seen of them; does not know rungs, or the search.
"""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from metarec_ray.config.experiment import Experiment, override
from metarec_ray.data.tasks.folds import Fold
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.validation import Validation, fold_validation, validation
from metarec_ray.training.artifact import GIVEN
from metarec_ray.training.warm_start import find, seen_through

WHY = "why"
"""Key of a report: why a trial has no value."""
SPREAD, OF_FOLDS = "spread", "folds"
"""Keys of a report: the standard deviation of the folds' values, and these, in order."""


class Judged(NamedTuple):
    """A fit, and the entities it is judged on, which it has not seen."""

    experiment: Experiment
    judge: Validation


def judged(experiment: Experiment, store: TaskStore, *, ranks: bool | None = None) -> list[Judged]:
    """Return what a trial trains: one fit on `train`, or one without each of `sweep.folds`.

    With `ranks` all are judged by rankings; with None the feedback and the algorithm decide.

    Raises:
        CheckpointError: what the experiment begins with or learns from has no good checkpoint.
        ConfigError: that has seen the entities, or folds cannot be left out of it.
        DataError: nobody has enough events to judge by.

    """
    folds = experiment.sweep.folds
    if folds is None:
        require_unseen_validation(experiment, store)
        alone = override(experiment, {"train.parts": "train"})
        return [Judged(alone, validation(alone, store, ranks=ranks))]
    require_unseen(experiment, store)
    found = []
    for number in range(folds):
        without = {"fold": number, "folds": folds}
        fit = override(experiment, {"train.parts": "train+valid", "train.without": without})
        judge = fold_validation(fit, store, Fold(**without), ranks=ranks)
        found.append(Judged(fit, judge))
    return found


def require_unseen_validation(experiment: Experiment, store: TaskStore) -> None:
    """Raise a ConfigError if a trial would begin with, or learn from, what has seen validation.

    Of the same store is asked, the one that can be recognised: there a run that learned from
    `train+valid`, or chose weights on validation entities, knows their answers.
    """
    for key in GIVEN:
        given = getattr(experiment.train, key)
        if given is None:
            continue
        path, source = find(given, key=f"train.{key}")
        if source.state["store_sha256"] != store.manifest.store_sha256:
            continue
        was = source.config
        joins = was.get("blend", {}).get("members") or was.get("second_stage")
        if joins or was.get("train", {}).get("parts") != "train":
            raise ConfigError(
                "a trial is judged on validation entities that it has not seen, which "
                f"train.{key} has, got {path} of the same store: train that with "
                "train.parts=train, as one learner"
            )


def require_unseen(experiment: Experiment, store: TaskStore) -> None:
    """Raise a ConfigError unless fits without a fold know nothing of its entities."""
    train = experiment.train
    if store.held_last:
        raise ConfigError(
            "folds are of entities, which a store that holds out the last events of all histories "
            "does not judge, got data.split=last (sweep.folds)"
        )
    if train.without is not None:
        raise ConfigError(
            "a sweep with folds leaves them out itself, train.without must be none, got fold "
            f"{train.without.fold} of {train.without.folds} (sweep.folds)"
        )
    if (known := seen_through(train, store)) is not None:
        raise ConfigError(
            f"a trial is judged on entities that it has not seen, which {known} (sweep.folds)"
        )


def joined(reports: Sequence[dict[str, Any]], metric: str, *, fits: int) -> dict[str, Any]:
    """Return the report of a trial of the reports of its fits, in the order of their folds.

    The mean, with the standard deviation over folds beside it. Of the first fit without a value it
    is that, and says which one it is of; those after it need not be reported.
    """
    if fits == 1:
        return reports[0]
    for number, report in enumerate(reports):
        if WHY in report:
            return report | {WHY: f"without fold {number} of {fits}: {report[WHY]}"}
    values = [report[metric] for report in reports]
    return reports[0] | {metric: fmean(values), SPREAD: stdev(values), OF_FOLDS: values}
