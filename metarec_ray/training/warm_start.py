"""What a run begins with: fresh parameters, and those of another run where they mean the same.

Knows what the rows of a parameter stand for: tokens their values, columns their features, ids
their raw ids. Does not know how the parameters were found, or how they go on.
"""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import torch
from pyarrow import BufferReader
from torch import Tensor

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.algorithms.label_scale import LabelScale
from metarec_ray.checkpoint import BUFFER, Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.config.running import Train
from metarec_ray.core.parameters import Declared, Rows, of_part, split
from metarec_ray.data.fields import FeatureField
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.towers import Sides
from metarec_ray.storage.places import at_hand, named
from metarec_ray.training.artifact import features_of


class Layout(NamedTuple):
    """What rows stand for.

    Attributes:
        feedback: what labels mean.
        rows: name of each token, column or id of a side, None for one that nothing corresponds to;
            parameters whose rows stand for none of these mean the same where name and shape are the
            same.

    """

    feedback: str
    rows: dict[Rows, list[Hashable | None]]


class Copied(NamedTuple):
    """What a warm start gave.

    Attributes:
        path: of the source.
        sha256: of its parameters.
        whole: parameters copied as they are.
        rows: parameter -> (rows copied, rows).
        fresh: parameters that begin anew.

    """

    path: Path
    sha256: str
    whole: list[str]
    rows: dict[str, tuple[int, int]]
    fresh: list[str]

    def sentence(self) -> str:
        """Return how much of what was copied."""
        rows = [f"{count} of {total} rows of {n}" for n, (count, total) in self.rows.items()]
        return (
            f"{self.path} gives {', '.join([f'{len(self.whole)} whole parameters', *rows])}; "
            f"fresh: {', '.join(self.fresh) or 'none'}"
        )


def begin(
    experiment: Experiment, store: TaskStore, learner: MetaLearner, trained: Tensor
) -> tuple[Declared, Copied | None]:
    """Return the parameters of step 0, drawn from the seed, and what `train.init_from` gave.

    `trained` bool [I] are the items that training meets.
    """
    generator = torch.Generator().manual_seed(experiment.run.seed)
    declared = experiment.model.init(_sides(store), generator)
    for parameter in declared.values():
        if parameter.rows == Rows("item", "ids"):
            parameter.value[~trained] = 0.0  # never touched: a new item is its features
    dense = split(declared)[0]
    added = learner.init(dense, generator)
    added |= learner.init_labels(dense, len(store.label_space.names))
    assert not declared.keys() & added.keys(), "a learner's parameters have names of their own"
    assert not any(parameter.is_table for parameter in added.values()), "lanes look up towers' rows"
    declared |= of_part("learner", added)
    if experiment.train.init_from is None:
        return declared, None
    path, source = find(experiment.train.init_from)
    return declared, copy(declared, own_layout(store), source, path)


def find(place: str | Path, *, key: str = "train.init_from") -> tuple[Path, Checkpoint]:
    """Return the checkpoint at a path or URI, or the newest good one of the run there.

    `place` is the value of `key`.

    Raises:
        CheckpointError: there is none, or a byte is not as written.
        MachineError: its object store does not answer.

    """
    path = at_hand(place)
    if (path / checkpoints.COMMITTED).exists():
        return path, checkpoints.load(path)
    found = checkpoints.latest(path / checkpoints.CHECKPOINTS)
    if found is None:
        raise CheckpointError(
            f"{key} must be a checkpoint or the folder of a trained run, got {named(path)}"
        )
    return found


def seen_through(train: Train, store: TaskStore) -> str | None:
    """Return what has seen entities that a fit is trained without, "KEY has, got VALUE".

    None if all it begins with, and learns from, is the store without them.

    Raises:
        CheckpointError: `train.init_from` has no good checkpoint.

    """
    if train.teacher is not None:
        return f"train.teacher has, got {train.teacher}"
    if train.init_from is not None:
        path, source = find(train.init_from)
        if source.state["store_sha256"] == store.manifest.store_sha256:
            return f"train.init_from has, got {path} of the same store"
    return None


def copy(declared: Declared, own: Layout, source: Checkpoint, path: Path) -> Copied:
    """Copy parameters of `source` into those declared, in place, where they mean the same.

    Raises:
        CheckpointError: the source learned from other labels, or from ratings that were not
            standardised, or has no parameter in common.

    """
    other = _layout_of(source)
    if other.feedback != own.feedback:
        raise CheckpointError(
            f"a warm start needs a source of the same feedback, {path} learned from "
            f"{other.feedback}, now {own.feedback} (train.init_from)"
        )
    if own.feedback == "explicit" and LabelScale.of_buffers(source.model, BUFFER) is None:
        raise CheckpointError(
            f"a warm start needs a source that learned from standardised ratings, {path} learned "
            "from ratings as they are: train it anew (train.init_from)"
        )
    found = Copied(path, checkpoints.parameters_sha256(source.model), [], {}, [])
    for name, parameter in sorted(declared.items(), key=lambda item: item[1].is_table):
        value, rows = parameter.value, parameter.rows
        theirs = source.model.get(name)
        if theirs is None or value.dim() != theirs.dim() or value.shape[1:] != theirs.shape[1:]:
            found.fresh.append(name)
        elif rows is not None:
            found.rows[name] = _copy_rows(value, own.rows[rows], theirs, other.rows[rows])
        elif value.shape == theirs.shape:
            value.copy_(theirs)
            found.whole.append(name)
        else:
            found.fresh.append(name)
    if not found.whole and not any(count for count, _ in found.rows.values()):
        raise CheckpointError(
            f"a warm start needs parameters in common, {path} has none of "
            f"{', '.join(found.fresh)} in their shapes (train.init_from)"
        )
    return found


def own_layout(store: TaskStore) -> Layout:
    """Return what the rows of a model on `store` stand for."""
    manifest = store.manifest
    fields = {side: fields for side, fields in manifest.features.items()}
    names = _feature_rows(fields, store.vocabularies)
    names[Rows("item", "ids")] = list(store.items.ids)
    names[Rows("user", "ids")] = [(manifest.store_sha256, row) for row in range(manifest.tasks)]
    return Layout(manifest.feedback, names)


def _layout_of(source: Checkpoint) -> Layout:
    schema = source.schema
    names = _feature_rows(features_of(source), schema["vocabularies"])
    table = pq.read_table(BufferReader(source.catalogue)).sort_by("item")
    # Items the source was not trained on have no vector of their own yet.
    trained = source.model.get(BUFFER + "trained", torch.zeros(len(table))).tolist()
    ids = zip(table["id"].to_pylist(), trained, strict=True)
    names[Rows("item", "ids")] = [item if learned else None for item, learned in ids]
    users = source.model.get("user.ids", torch.zeros(0))
    names[Rows("user", "ids")] = [(source.state["store_sha256"], row) for row in range(len(users))]
    return Layout(schema["feedback"], names)


def _feature_rows(
    fields: Mapping[str, Sequence[FeatureField]], vocabularies: Mapping[str, Mapping[str, list]]
) -> dict[Rows, list[Any]]:
    """Return what the tokens and dense columns of each side are."""
    names: dict[Rows, list[Any]] = {}
    for side, its in fields.items():
        tokens: list[Any] = ["padding"]
        columns: list[Any] = []
        for field in its:
            if field.kind in ("categorical", "multi_categorical"):
                values = [None, *vocabularies[side][field.name]]
                tokens += [(field.name, field.kind, value) for value in values]
            else:
                columns += [(field.name, field.kind, field.dim, at) for at in range(field.dim)]
        names |= {Rows(side, "tokens"): tokens, Rows(side, "dense"): columns}
    return names


def _copy_rows(
    value: Tensor, names: Sequence[Any], theirs: Tensor, their_names: Sequence[Any]
) -> tuple[int, int]:
    place = {name: row for row, name in enumerate(their_names) if name is not None}
    pairs = [(row, place[name]) for row, name in enumerate(names) if name in place]
    if pairs:
        to, at = torch.tensor(pairs).T
        value[to] = theirs[at]
    return len(pairs), len(names)


def _sides(store: TaskStore) -> Sides:
    """Return the sizes a model must know of a store."""
    spaces = (store.user_space, store.item_space, store.context_space)
    user, item, context = (Side(space.tokens, space.dense) for space in spaces)
    return Sides(user, item, context, users=store.manifest.tasks, items=len(store.items.ids))
