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
from metarec_ray.algorithms.union import Algorithm
from metarec_ray.config.judging import Bench, Blending, Evaluate
from metarec_ray.config.messages import UNIONS, sentence
from metarec_ray.config.running import Run, Serve, Sweep, Train
from metarec_ray.data.setting_types import Settings
from metarec_ray.data.settings import Data
from metarec_ray.errors import ConfigError
from metarec_ray.models.encoders.token_sum import TokenSum
from metarec_ray.models.towers import Towers


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

    def members(self) -> dict[str, "Experiment"]:
        """Return the experiment of each member of the blend, without the blend; {} without one."""
        base = self.model_copy(update={"blend": Blending()})
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
        """Folder of the run."""
        return Path(self.run.dir)

    @property
    def store(self) -> Path:
        """Folder of the run's task store."""
        return Path(self.run.store) if self.run.store else self.directory / "store"


def load(path: Path | None, overrides: Sequence[str] = ()) -> Experiment:
    """Return the experiment of a YAML file (None: all defaults) with `a.b=value` overrides.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, or a value that breaks a rule; one
            sentence with the rule, the value and the place.

    """
    place = str(path) if path else "--set"
    tree = _read(path) if path else {}
    return parse(_assigned(tree, dict(_split(text) for text in overrides)), place)


def parse(tree: dict[str, Any], place: str) -> Experiment:
    """Return the experiment of a nested mapping; `place` is named in errors."""
    tree = _named(tree, "algorithm", BayesianHead().name)
    if isinstance(tree.get("model"), dict):
        tree = {**tree, "model": _named(tree["model"], "encoder", TokenSum().name)}
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(sentence(error, place)) from None


def dump(experiment: Experiment) -> str:
    """Return the whole experiment as YAML that `load` reads back to an equal one."""
    return yaml.safe_dump(json.loads(experiment.model_dump_json()), sort_keys=False)


def override_from(experiment: Experiment, overrides: Sequence[str]) -> Experiment:
    """Return the experiment with `key=value` overrides, as `load` takes them."""
    return override(experiment, dict(_split(text) for text in overrides))


def override(experiment: Experiment, values: dict[str, Any]) -> Experiment:
    """Return the experiment with dotted keys replaced; ConfigError as in `load`."""
    tree = json.loads(experiment.model_dump_json())
    return parse(_assigned(tree, values), "an override")


def _named(tree: dict[str, Any], section: str, name: str) -> dict[str, Any]:
    """Return the tree with a section that names no member of its union given the default one."""
    given = tree.get(section)
    if not isinstance(given, dict) or "name" in given:
        return tree
    return {**tree, section: {"name": name, **given}}


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"a configuration must be a readable file, got {path}: {error}") from None
    except yaml.YAMLError as error:
        first = " ".join(str(error).split())
        raise ConfigError(f"a configuration must be YAML: {first} ({path})") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"a configuration must be a mapping of sections, got a {type(tree).__name__} ({path})"
        )
    # An empty section is written as nothing, which YAML reads as null.
    return {section: {} if content is None else content for section, content in tree.items()}


def _split(override: str) -> tuple[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"an override must be key=value, got {override!r} (--set)")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(
            f"the value of an override must be YAML, got {value!r} (--set {key})"
        ) from None


def _assigned(tree: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return `tree` with dotted keys replaced; a new member of a union first, then its keys."""
    names = [f"{'.'.join(union)}.name" for union in UNIONS]
    for key in sorted(values, key=lambda key: key not in names):
        _assign(tree, key, values[key])
    return tree


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if tree.get(section) is None:
            tree[section] = {}
        branch = tree[section]
        if not isinstance(branch, dict):
            raise ConfigError(
                f"{section} of {key} must be a section, got the value {branch!r} (--set)"
            )
        tree = branch
    if last == "name" and tuple(sections) in UNIONS and tree.get("name") != value:
        tree.clear()  # Another algorithm has other hyper-parameters; its own follow.
    tree[last] = value
