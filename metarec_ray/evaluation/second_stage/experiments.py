"""The fits that two stages are made of, as experiments.

Knows folds and members; does not know how anything is fitted.
"""

from metarec_ray.config.experiment import Experiment
from metarec_ray.config.running import Train
from metarec_ray.data.tasks.folds import Fold
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.blend import member_experiments
from metarec_ray.training.warm_start import seen_through


def stage_experiments(experiment: Experiment, store: TaskStore) -> dict[str, Experiment]:
    """Return the experiments of learners that two stages are made of, by name.

    Those of the first stage, and NAME-fold0, NAME-fold1 ... without the entities of each fold. The
    first stage is `first`, or the members of a blend as `member_experiments` calls them.

    Raises:
        ConfigError: labels are no positives, or entities have several domains.
        MachineError: the ranker needs a package that is not installed.

    """
    stage, first = experiment.second_stage, experiment.first_stage()
    assert stage is not None
    _require_suitable(experiment, store)
    stage.ranker.require_installed()  # before hours of first stages, not after
    members = first.members() or {"first": first}
    whole = member_experiments(first, store) if first.members() else members
    folds = {
        f"{name}-fold{fold}": _without(member, Fold(fold=fold, folds=stage.folds))
        for name, member in members.items()
        for fold in range(stage.folds)
    }
    return {**whole, **folds}


def _without(experiment: Experiment, fold: Fold) -> Experiment:
    train = experiment.train.model_copy(update={"without": fold})
    return experiment.model_copy(update={"train": train})


def _require_suitable(experiment: Experiment, store: TaskStore) -> None:
    feedback = store.manifest.feedback
    if feedback != "implicit":
        raise ConfigError(
            f"a second stage orders positives and needs implicit feedback, got {feedback} "
            "(second_stage)"
        )
    if store.held_last:
        raise ConfigError(
            "a second stage learns from entities that begin, which a store that holds out the last "
            "events of all histories does not judge (data.split=last, second_stage)"
        )
    for one in [experiment, *experiment.members().values()]:
        _require_unseen(one.train, experiment.train, store)


def _require_unseen(train: Train, whole: Train, store: TaskStore) -> None:
    """Raise a ConfigError unless fits without a fold know nothing of its entities."""
    if train.domains is not None:
        raise ConfigError(
            "a second stage ranks one catalogue, train.domains must be none, got "
            f"{sorted(train.domains.weights)} (second_stage)"
        )
    if train.without is not None:
        raise ConfigError(
            "a second stage makes folds itself, train.without must be none, got fold "
            f"{train.without.fold} of {train.without.folds} (second_stage)"
        )
    if train.parts != whole.parts:
        raise ConfigError(
            f"members of a first stage learn from the same entities, got train.parts {train.parts} "
            f"beside {whole.parts} (second_stage)"
        )
    if (known := seen_through(train, store)) is not None:
        raise ConfigError(
            "a second stage learns from entities that its first stage has not seen, which "
            f"{known} (second_stage)"
        )
