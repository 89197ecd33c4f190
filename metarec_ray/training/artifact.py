"""From fitted parameters to a checkpoint: everything that a resumed run or a server needs.

Knows stores and checkpoints, and what a resumed run must have in common with the one it resumes;
does not know how parameters are found.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from metarec_ray.algorithms.label_scale import UNCHANGED, LabelScale
from metarec_ray.checkpoint import BUFFER, CHECKPOINTS, Checkpoint, step_path
from metarec_ray.config import places
from metarec_ray.config.compare import Difference, difference
from metarec_ray.config.experiment import Experiment, beside, parse, tree_of
from metarec_ray.core.batch import Params
from metarec_ray.data.fields import FeatureField
from metarec_ray.data.log.labels import LabelRules
from metarec_ray.data.store.manifest import ITEMS
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError

SECTIONS = ("model", "algorithm", "train", "blend", "second_stage")
"""What a run must have in common with the one it resumes; the store's hash stands for `data`."""
CHOSEN_BY = (
    "ks",
    "query_size",
    "min_positives",
    "positive_min",
    "mask",
    "boundary",
    "validation_entities",
)
"""Keys of `evaluate` that also say what weights of a blend and second stages are chosen by."""
GIVEN = {"init_from": "source_sha256", "teacher": "teacher_sha256"}
"""Keys of `train` that are checkpoints, with the keys of a state that hold their hashes."""
_NOTHING: Mapping[str, str] = {}


def assemble(
    experiment: Experiment,
    store: TaskStore,
    model: Params,
    *,
    trained: Tensor,
    step: int,
    optimizer: Params,
    metrics: dict[str, float],
    given: Mapping[str, str] = _NOTHING,
) -> Checkpoint:
    """Return the checkpoint of `model` as it is after `step` steps.

    Args:
        experiment: as it was run.
        store: that it was run on.
        model: parameters and buffers by their names in a checkpoint.
        trained: bool [I], items that training met.
        step: of the outer loop.
        optimizer: moments of the outer optimizer; empty where there is none.
        metrics: the last ones, with the `seconds` of training.
        given: hashes of the parameters that the keys of `GIVEN` gave, of those that are set.

    """
    state = {"seed": experiment.run.seed, "store_sha256": store.manifest.store_sha256}
    return Checkpoint(
        model=model | {BUFFER + "trained": trained},
        optimizer=optimizer,
        config=own_config(experiment, step),
        schema=_schema(store),
        metrics=metrics,
        state={"step": step, **state, **{GIVEN[key]: value for key, value in given.items()}},
        catalogue=store.file(ITEMS).read_bytes(),
    )


def require_same_run(
    checkpoint: Checkpoint,
    experiment: Experiment,
    store: TaskStore,
    path: Path,
    *,
    given: Mapping[str, str] = _NOTHING,
) -> None:
    """Raise a CheckpointError if the checkpoint of `path` is of other data or settings.

    `given` are hashes as in `assemble`.
    """
    anew = "choose another run.dir to begin anew"
    if (trained_on := checkpoint.state["store_sha256"]) != store.manifest.store_sha256:
        raise CheckpointError(
            f"a run resumes on the store it began with, {path} has {trained_on[:12]}, {store.path} "
            f"is {store.manifest.store_sha256[:12]}; {anew}"
        )
    if features_of(checkpoint) != store.manifest.features:
        raise CheckpointError(
            f"a run resumes on features that are encoded as it began, {path} has other numbers for "
            f"them than {store.path}, which another version prepared; {anew}"
        )
    # Keys that are newer than the checkpoint have their defaults.
    begun = beside(parse(checkpoint.config, f"config.json of {path}"), path)
    seeds = checkpoint.state["seed"], experiment.run.seed
    changed = (
        (Difference("run.seed", *seeds) if seeds[0] != seeds[1] else None)
        or difference(begun, experiment, store.manifest.feedback, SECTIONS)
        or _other_choice(begun, experiment)
        or _other_given(begun, experiment, checkpoint.state, given)
    )
    if changed is not None:
        raise CheckpointError(
            f"a run resumes with the configuration it began with, {changed} ({path}); {anew}"
        )


def require_same_scale(
    model: Mapping[str, Tensor], scale: LabelScale, path: Path | None = None
) -> None:
    """Raise a CheckpointError if a checkpoint's `model` was learned from labels on another scale.

    Checkpoints of before labels were standardised have them as they are. The error names `path`.
    """
    theirs = LabelScale.of_buffers(model, BUFFER)
    if (theirs or UNCHANGED).is_close(scale):
        return
    then = f"ratings of {_told(theirs)}" if theirs else "ratings as they are, by an older version"
    raise CheckpointError(
        f"a run resumes with the scale of labels it began with, {path or 'the checkpoint'} learned "
        f"from {then}, now {_told(scale)}; choose another run.dir to begin anew"
    )


def features_of(checkpoint: Checkpoint) -> dict[str, list[FeatureField]]:
    """Return the fields of each side that the model of a checkpoint reads."""
    return {
        side: [FeatureField.model_validate(field) for field in fields]
        for side, fields in checkpoint.schema["features"].items()
    }


def own_config(experiment: Experiment, step: int) -> dict[str, Any]:
    """Return the configuration as it is written into a checkpoint of its run."""
    folder = step_path(experiment.directory / CHECKPOINTS, step)
    return places.relative(tree_of(experiment), folder)


def _told(scale: LabelScale) -> str:
    return f"mean {scale.mean:.4g} and standard deviation {scale.std:.4g}"


def _other_choice(begun: Experiment, now: Experiment) -> Difference | None:
    """Return the first change of what a blend's weights or a second stage were chosen by."""
    if not now.blend.members and now.second_stage is None:
        return None
    for key in CHOSEN_BY:
        found = [getattr(one.evaluate, key) for one in (begun, now)]
        if found[0] != found[1]:
            return Difference(f"evaluate.{key}", *found)
    return None


def _other_given(
    begun: Experiment, now: Experiment, state: Mapping[str, Any], given: Mapping[str, str]
) -> Difference | None:
    """Return the first change of a `GIVEN` key: other parameters, or another path if one is all."""
    for key, name in GIVEN.items():
        paths = [getattr(one.train, key) for one in (begun, now)]
        hashes = [state.get(name), given.get(key)]
        found = hashes if all(hashes) else [path and Path(path).resolve() for path in paths]
        if found[0] != found[1]:
            return Difference(f"train.{key}", *paths)
    return None


def _schema(store: TaskStore) -> dict[str, Any]:
    """Return what a request to the model may say: labels, features and their vocabularies."""
    manifest = store.manifest
    features = {
        side: [field.model_dump() for field in fields] for side, fields in manifest.features.items()
    }
    return {
        "feedback": manifest.feedback,
        "labels": LabelRules.of_tree(manifest.settings).model_dump(mode="json"),
        "features": features,
        "vocabularies": store.vocabularies,
    }
