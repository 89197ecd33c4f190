"""What two configurations differ in, where it matters to a run that goes on.

Knows which keys change numbers and what stands for a key that is not set; does not know stores or
checkpoints. Paths do not matter: the same run may be moved, or sent to a cluster as a job.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from metarec_ray.algorithms.losses.union import DEFAULTS
from metarec_ray.config.experiment import Experiment, tree_of
from metarec_ray.config.places import KEYS
from metarec_ray.data.settings import Feedback

HOW = frozenset(
    (
        "data.versions",
        "train.num_workers",
        "train.device",
        "train.cpus_per_worker",
        "train.placement",
        "train.max_failures",
        "train.log_every",
        "train.checkpoint_every",
        "train.keep.last",
        "train.keep.best",
        "train.mlflow",
        "train.tensorboard",
        "sweep.max_concurrent",
        "sweep.cpus_per_trial",
        "sweep.mlflow",
        "bench.mlflow",
        "bench.tensorboard",
    )
)
"""Keys that say how a run is computed, not what it computes."""
PLACES = frozenset(".".join(key) for key in KEYS)


class Difference(NamedTuple):
    """A key with the value that a run began with and the one it has now."""

    key: str
    begun: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} was {_shown(self.begun)} and is {_shown(self.now)}"


def difference(
    begun: Experiment,
    now: Experiment,
    feedback: Feedback,
    sections: Sequence[str],
    *,
    apart_from: Collection[str] = (),
) -> Difference | None:
    """Return the first key of the sections that matters and differs, None without one.

    A loss that is not set is that of the `feedback`. `apart_from` are keys that do not matter.
    """
    old, new = (_leaves(one, feedback, sections) for one in (begun, now))
    ignored = HOW | PLACES | set(apart_from)
    keys = [key for key in {**new, **old} if key not in ignored and old.get(key) != new.get(key)]
    # Another algorithm has other keys: its name says more.
    keys.sort(key=lambda key: not key.endswith(".name"))
    return Difference(keys[0], old.get(keys[0]), new.get(keys[0])) if keys else None


def _leaves(experiment: Experiment, feedback: Feedback, sections: Sequence[str]) -> dict[str, Any]:
    tree = tree_of(experiment)
    loss = experiment.train.loss or DEFAULTS[feedback]
    tree["train"]["loss"] = loss.model_dump(mode="json")
    return dict(_flat({section: tree[section] for section in sections}, ""))


def _flat(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    return "none" if value is None else repr(value) if isinstance(value, str) else str(value)
