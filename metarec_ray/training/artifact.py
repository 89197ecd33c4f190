"""From fitted parameters to a checkpoint: everything that a resumed run or a server needs.

Knows stores and checkpoints, and what a resumed run must have in common with the one it resumes;
does not know how parameters are found.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from metarec_ray.checkpoint import BUFFER, Checkpoint
from metarec_ray.config.experiment import Experiment, parse
from metarec_ray.core.batch import Params
from metarec_ray.data.store.manifest import ITEMS
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError


def assemble(
    experiment: Experiment,
    store: TaskStore,
    model: Params,
    *,
    trained: Tensor,
    step: int,
    optimizer: Params,
    metrics: dict[str, float],
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

    """
    return Checkpoint(
        model=model | {BUFFER + "trained": trained},
        optimizer=optimizer,
        config=_tree(experiment),
        schema=_schema(store),
        metrics=metrics,
        state={
            "step": step,
            "seed": experiment.run.seed,
            "store_sha256": store.manifest.store_sha256,
        },
        catalogue=store.file(ITEMS).read_bytes(),
    )


def require_same_run(
    checkpoint: Checkpoint, experiment: Experiment, store: TaskStore, path: Path
) -> None:
    """Raise a CheckpointError if the checkpoint of `path` is of other data or settings."""
    state = {name: checkpoint.state[name] for name in ("seed", "store_sha256")}
    expected = {"seed": experiment.run.seed, "store_sha256": store.manifest.store_sha256}
    if state != expected:
        raise CheckpointError(
            f"a run resumes on the store and seed it began with, {path} has {state}, "
            f"now {expected}; choose another run.dir to begin anew"
        )
    # Keys that are newer than the checkpoint have their defaults.
    begun = parse(checkpoint.config, f"config.json of {path}")
    changed = _changed(_tree(begun), _tree(experiment))
    if changed is not None:
        raise CheckpointError(
            f"a run resumes with the configuration it began with, {changed} differs "
            f"from that of {path}; choose another run.dir to begin anew"
        )


def _tree(experiment: Experiment) -> dict[str, Any]:
    return json.loads(experiment.model_dump_json())


def _schema(store: TaskStore) -> dict[str, Any]:
    """Return what a request to the model may say: feedback, features and their vocabularies."""
    manifest = store.manifest
    features = {
        side: [field.model_dump() for field in fields] for side, fields in manifest.features.items()
    }
    return {
        "feedback": manifest.feedback,
        "features": features,
        "vocabularies": store.vocabularies,
    }


def _changed(old: dict, new: dict) -> str | None:
    """Return the first key that differs and changes the numbers; None without one."""
    for section in ("model", "algorithm", "train"):  # the store's hash stands for `data`
        for key in new[section]:
            if key in (
                "num_workers",
                "device",
                "cpus_per_worker",
                "max_failures",
                "log_every",
                "checkpoint_every",
            ):
                continue
            if old[section].get(key) != new[section][key]:
                return f"{section}.{key}"
    return "blend" if old.get("blend") != new["blend"] else None
