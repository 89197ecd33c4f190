"""The methods of a bench: what each changes in the experiment, its seeds, its tuning grid.

Knows the union of algorithms and the `bench` section; does not know how anything is fitted. Changes
are dotted keys, as `--set` takes them.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple, get_args

from metarec_ray.algorithms.base import FittedLearner, Learner, StatisticalLearner
from metarec_ray.algorithms.rivals.grids import GRIDS
from metarec_ray.algorithms.union import Algorithm, name_of
from metarec_ray.config.experiment import Experiment, override
from metarec_ray.config.judging import BenchLearner, Kind
from metarec_ray.config.running import Train
from metarec_ray.data.settings import Feedback
from metarec_ray.errors import ConfigError

CLOSED_FORMS = (
    "content_profile",
    "content_ridge",
    "ease_popularity",
    "item_knn_popularity",
    "sequence_neighbours",
    "user_knn",
    "user_knn_ratings",
)
"""Besides those that are fitted by sums: the same for every seed."""
_WHOLE = (
    "blend",
    "second_stage",
    "train.domains",
    "train.average",
    "train.loss",
    "train.without",
)  # a blend's members have dots already

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One method of a bench.

    Attributes:
        name: as in the table.
        kind: in the table.
        overrides: dotted keys of the experiment -> values.
        seeds: fits with different seeds.
        grid: candidate hyper-parameters, each dotted keys -> values, to be chosen from on
            validation entities; () for no tuning.

    """

    name: str
    kind: Kind
    overrides: dict[str, Any]
    seeds: int
    grid: tuple[dict[str, Any], ...] = ()


def lineup(
    experiment: Experiment,
    feedback: Feedback,
    *,
    n_items: int,
    positive_min: float | None,
    ratings: bool,
) -> dict[str, Entry]:
    """Return every method that suits a log: the union of algorithms, then `bench.learners`.

    Methods that do not take a catalogue of this size are left out with a warning, and those that
    read further labels of events where a log has none.

    Args:
        experiment: what the changes are made to.
        feedback: of the log.
        n_items: size of the catalogue.
        positive_min: smallest label of a positive.
        ratings: whether predicted ratings are judged. Then only methods that predict ratings suit,
            and closed forms have several seeds too, because a seed shuffles the tasks.

    """
    found: dict[str, Entry] = {}
    seeds = experiment.bench.seeds
    for name, learner in algorithms().items():
        suits = feedback in learner.suits and not (ratings and learner.ranks_only)
        labelled = bool(experiment.data.labels) or not learner.reads_labels
        if not suits or not labelled or not _takes(learner, n_items):
            continue
        overrides = _changes(experiment, learner, positive_min) | {"algorithm.name": name}
        once = _closed_form(learner) and not ratings
        found[name] = Entry(name, learner.kind, overrides, 1 if once else seeds, _grid(name))
    if experiment.blend.members:
        found["blend"] = Entry("blend", "learner", _without_second_stage(experiment), seeds)
    if experiment.second_stage is not None:
        found["second_stage"] = Entry("second_stage", "learner", {}, seeds)
    for name, asked in experiment.bench.learners.items():
        try:
            found[name] = _entry(name, asked, experiment, positive_min, ratings=ratings)
        except ConfigError as error:
            raise ConfigError(f"{error} (bench.learners.{name})") from None
    return found


def chosen(
    entries: Mapping[str, Entry], names: Sequence[str] | None, *, alone: bool
) -> list[Entry]:
    """Return the entries of the names (None: all): floors, rivals, controls, then learners.

    Floors, rivals and controls are always included, unless `alone`.

    Raises:
        ConfigError: a name that is not in the lineup.

    """
    if names is None:
        names = list(entries)
    if unknown := [name for name in names if name not in entries]:
        raise ConfigError(f"--learners must be among {', '.join(entries)}, got {unknown[0]!r}")
    order: tuple[Kind, ...] = ("floor", "rival", "control", "learner")
    standing = [] if alone else [e.name for e in entries.values() if e.kind != "learner"]
    wanted = dict.fromkeys([*standing, *names])
    return sorted((entries[name] for name in wanted), key=lambda entry: order.index(entry.kind))


def algorithms() -> dict[str, type[Learner]]:
    """Return every algorithm of the union by its name."""
    union = get_args(get_args(Algorithm)[0])
    return {name_of(learner): learner for learner in union}


def _takes(learner: type[Learner], n_items: int) -> bool:
    """Return whether a learner takes a catalogue of this size; warn if it does not."""
    limit = learner.model_fields.get("max_items")
    if limit is None or n_items <= limit.default:
        return True
    name = name_of(learner)
    log.warning("%s is left out: it takes %d items, got %d", name, limit.default, n_items)
    return False


def _closed_form(learner: type[Learner]) -> bool:
    return issubclass(learner, StatisticalLearner) or name_of(learner) in CLOSED_FORMS


def _grid(name: str) -> tuple[dict[str, Any], ...]:
    values = GRIDS.get(name)
    if values is None:
        return ()
    keys = [f"algorithm.{key}" for key in values]
    return tuple(dict(zip(keys, point, strict=True)) for point in product(*values.values()))


def _entry(
    name: str,
    asked: BenchLearner,
    experiment: Experiment,
    positive_min: float | None,
    *,
    ratings: bool,
) -> Entry:
    tree = asked.model_dump(exclude_unset=True, exclude={"seeds", "kind"})
    overrides = {"blend": {}} if experiment.blend.members else {}
    overrides |= _without_second_stage(experiment) | _dotted(tree)
    found = override(experiment, overrides)
    learner, blended = type(found.algorithm), bool(found.blend.members)
    if not blended:
        overrides = _changes(experiment, learner, positive_min) | overrides
    several = blended or found.second_stage is not None
    once = _closed_form(learner) and not several and not ratings
    kind: Kind = "learner" if several else learner.kind
    seeds = 1 if once else experiment.bench.seeds
    return Entry(name, asked.kind or kind, overrides, asked.seeds or seeds)


def _changes(
    experiment: Experiment, learner: type[Learner], positive_min: float | None
) -> dict[str, Any]:
    """Return what this learner changes in an experiment that was written for another one."""
    changes: dict[str, Any] = {"blend": {}} if experiment.blend.members else {}
    changes |= _without_second_stage(experiment)
    if issubclass(learner, FittedLearner):
        steered = experiment.train.outer_loop()
        changes |= {f"train.{key}": Train.model_fields[key].default for key in steered}
    if experiment.model.encoder.adapts and not learner.adapts_encoder:
        changes["model.encoder.adapts"] = False
    if "positive_min" in learner.model_fields and positive_min is not None:
        changes["algorithm.positive_min"] = positive_min
    return changes


def _without_second_stage(experiment: Experiment) -> dict[str, Any]:
    """Return what leaves an experiment's second stage out."""
    return {} if experiment.second_stage is None else {"second_stage": None}


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested sections as dotted keys; sections that may be None, and blends, stay whole."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, Mapping) and prefix + key not in _WHOLE
        found |= _dotted(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found
