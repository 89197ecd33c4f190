"""An experiment: a YAML file, dotted overrides, and errors that name their place.

Knows what may be written and what it means; does not know how any of it runs.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from metarec_ray.algorithms.closed_form.bayesian import BayesianHead
from metarec_ray.algorithms.second_stage.rankers.networks import Networks
from metarec_ray.algorithms.union import Algorithm
from metarec_ray.config import places, yaml_text
from metarec_ray.config.judging import Bench, Blending, Evaluate, SecondStage
from metarec_ray.config.messages import sentence
from metarec_ray.config.overrides import assigned
from metarec_ray.config.overrides import read as read_overrides
from metarec_ray.config.running import Run, Serve, Train
from metarec_ray.config.sweeping import Sweep
from metarec_ray.data.setting_types import Settings
from metarec_ray.data.settings import Data
from metarec_ray.errors import ConfigError
from metarec_ray.models.encoders.token_sum import TokenSum
from metarec_ray.models.towers import Towers
from metarec_ray.storage.uris import inside, local

STORE = "store"
"""Folder of a run that holds its task store."""
_NAMED = {"model": ("encoder", TokenSum().name), "second_stage": ("ranker", Networks().name)}
"""Parts of sections that are unions, and the member that is meant where none is named."""


class Experiment(Settings):
    """A whole experiment; every key has a default, unknown keys are refused."""

    run: Run = Run()
    data: Data = Data()
    model: Towers = Towers()
    algorithm: Algorithm = BayesianHead()
    train: Train = Train()
    sweep: Sweep = Sweep()
    evaluate: Evaluate = Evaluate()
    serve: Serve = Serve()
    bench: Bench = Bench()
    blend: Blending = Blending()
    second_stage: SecondStage | None = None

    def first_stage(self) -> "Experiment":
        """Return the experiment without its second stage."""
        return self.model_copy(update={"second_stage": None})

    def members(self) -> dict[str, "Experiment"]:
        """Return the experiment of each member of the blend, without the blend; {} without one."""
        base = self.first_stage().model_copy(update={"blend": Blending()})
        return {name: override(base, keys) for name, keys in self.blend.members.items()}

    @model_validator(mode="after")
    def _members_are_experiments(self) -> "Experiment":
        try:
            self.members()
        except ConfigError as error:
            raise ValueError(f"{error}, of a member of the blend") from None
        return self

    @property
    def directory(self) -> Path:
        """Folder of the run on this machine; of one in an object store its working copy."""
        return local(self.run.dir)

    @property
    def store(self) -> Path:
        """Folder of the run's task store on this machine."""
        return local(self.run.store) if self.run.store else self.directory / STORE

    def of_run(self, name: str) -> str:
        """Return the path or URI of a name in the run's folder."""
        return inside(self.run.dir, name)

    @property
    def store_place(self) -> str:
        """Path or URI of the run's task store."""
        return self.run.store or self.of_run(STORE)


def load(path: Path | None, overrides: Sequence[str] = ()) -> Experiment:
    """Return the experiment of a YAML file (None: all defaults) with `a.b=value` overrides.

    Paths of what it reads are found beside the file, too (`config.places`).

    Raises:
        ConfigError: no such file, not YAML, an unknown key, or a value that breaks a rule; one
            sentence with the rule, the value and the place.

    """
    path = path and path.expanduser()
    place = str(path) if path else "--set"
    tree = yaml_text.read(path) if path else {}
    experiment = parse(assigned(tree, read_overrides(overrides, Experiment)), place)
    return experiment if path is None else beside(experiment, path.parent)


def parse(tree: dict[str, Any], place: str) -> Experiment:
    """Return the experiment of a nested mapping; `place` is named in errors.

    A section that is None has its defaults, unless it may be none.
    """
    may_be_none = [key for key, field in Experiment.model_fields.items() if field.default is None]
    tree = {k: {} if v is None and k not in may_be_none else v for k, v in tree.items()}
    tree = _swept(_named(tree, "algorithm", BayesianHead().name), place)
    for section, (part, name) in _NAMED.items():
        if isinstance(tree.get(section), dict):
            tree = {**tree, section: _named(tree[section], part, name)}
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(sentence(error, place)) from None


def beside(experiment: Experiment, folder: Path) -> Experiment:
    """Return the experiment of a configuration in `folder` with its paths found."""
    return parse(places.beside(tree_of(experiment), folder), str(folder))


def absolute(experiment: Experiment, folder: Path) -> Experiment:
    """Return the experiment with its paths from `folder` on made absolute."""
    return parse(places.absolute(tree_of(experiment), folder), str(folder))


def relative(experiment: Experiment, folder: Path) -> Experiment:
    """Return the experiment as a configuration in `folder` says it: `beside` undoes it."""
    return parse(places.relative(tree_of(experiment), folder), str(folder))


def require_log(experiment: Experiment, path: Path) -> None:
    """Raise a DataError that says where it was looked if a log or a table of `path` is missing."""
    places.require(tree_of(experiment), path)


def dump(experiment: Experiment) -> str:
    """Return the whole experiment as YAML that `load` reads back to an equal one."""
    return yaml.safe_dump(tree_of(experiment), sort_keys=False)


def tree_of(experiment: Experiment) -> dict[str, Any]:
    """Return the whole experiment as a tree of plain values that `parse` reads back."""
    return json.loads(experiment.model_dump_json())


def override_from(experiment: Experiment, overrides: Sequence[str]) -> Experiment:
    """Return the experiment with `key=value` overrides, as `load` takes them."""
    return override(experiment, read_overrides(overrides, Experiment))


def override(experiment: Experiment, values: dict[str, Any]) -> Experiment:
    """Return the experiment with dotted keys replaced; ConfigError as in `load`."""
    return parse(assigned(tree_of(experiment), values), "an override")


def _swept(tree: dict[str, Any], place: str) -> dict[str, Any]:
    """Return the tree with `tune.mlflow` as `sweep.mlflow`: what `metarec tune` reads is `sweep`.

    Raises:
        ConfigError: `tune` holds another key, or both are set.

    """
    given = tree.get("tune")
    if given is None:
        return tree
    if not isinstance(given, dict) or set(given) != {"mlflow"}:
        raise ConfigError(f"what metarec tune reads is the section sweep, got tune ({place}: tune)")
    sweep = tree.get("sweep", {})
    if not isinstance(sweep, dict) or sweep.get("mlflow", given["mlflow"]) != given["mlflow"]:
        raise ConfigError(f"tune.mlflow is sweep.mlflow, which is set too ({place}: tune.mlflow)")
    rest = {key: value for key, value in tree.items() if key != "tune"}
    return rest | {"sweep": {**sweep, **given}}


def _named(tree: dict[str, Any], section: str, name: str) -> dict[str, Any]:
    """Return the tree with a section that names no member of its union given the default one."""
    given = tree.get(section)
    if not isinstance(given, dict) or "name" in given:
        return tree
    return {**tree, section: {"name": name, **given}}
