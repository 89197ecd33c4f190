"""An experiment: every section of a YAML file, dotted overrides, and errors that name their place.

Knows what may be written and what it means; does not know how any of it runs.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from metarec_ray.algorithms import Algorithm, BayesianHead
from metarec_ray.config_errors import sentence
from metarec_ray.data.lanes import Cut
from metarec_ray.data.settings import Data, Settings
from metarec_ray.errors import ConfigError
from metarec_ray.models.towers import Towers


class Run(Settings):
    """Where a run lies and the one seed that everything random is derived from.

    `store` is the task store; None for the folder `store` in `dir`.
    """

    dir: str = "runs/default"
    store: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Train(Settings):
    """The `train` section.

    Attributes:
        num_workers: Ray Train workers; the parameters do not depend on it.
        device: `auto` takes a GPU a worker where the cluster has them.
        steps: meta-batches to train on.
        lanes: fixed shares of a meta-batch, each computed whole on one worker.
        lane_tasks: tasks of a lane.
        outer_lr: peak rate of the outer optimizer (AdamW).
        schedule: `cosine` warms up over a tenth of the steps and decays to zero.
        weight_decay: decay of weights, embeddings and touched rows; biases, learned rates and the
            prior's precisions are exempt.
        max_gradient_norm: the meta-gradient is scaled down to this norm.
        checkpoint_every, log_every: steps between checkpoints and between lines of metrics.
        reference_items: size of the fixed sample that positives compete with in the inner loop.
        max_failures: restarts of the worker group before a run gives up.
        parts: entities to train on; choices are made with `train`, judged on validation entities.
        tasks: how a history is cut into tasks.
        cpus_per_worker: CPUs a worker asks for; fractions let two cores hold all actors.

    """

    num_workers: Annotated[int, Field(ge=1, le=4096)] = 2
    device: Literal["auto", "cpu", "cuda"] = "auto"
    steps: PositiveInt = 400
    lanes: PositiveInt = 4
    lane_tasks: PositiveInt = 32
    outer_lr: PositiveFloat = 0.01
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: Annotated[float, Field(ge=0)] = 0.5
    max_gradient_norm: PositiveFloat = 1.0
    checkpoint_every: PositiveInt = 200
    log_every: PositiveInt = 20
    reference_items: PositiveInt = 512
    cpus_per_worker: PositiveFloat = 0.5
    max_failures: NonNegativeInt = 3
    parts: Literal["train", "train+valid"] = "train+valid"
    tasks: Cut = Cut()

    @model_validator(mode="after")
    def _a_lane_for_every_worker(self) -> "Train":
        if self.num_workers > self.lanes:
            raise ValueError(f"num_workers must be <= lanes {self.lanes}, got {self.num_workers}")
        return self


class Range(Settings):
    """Values of one key of a sweep: a log-uniform or uniform interval, or a list of choices."""

    low: float | None = None
    high: float | None = None
    log: bool = True
    choices: tuple[bool | int | float | str | None, ...] | None = None

    @model_validator(mode="after")
    def _interval_or_choices(self) -> "Range":
        interval = self.low is not None and self.high is not None
        if interval == (self.choices is not None):
            raise ValueError("a range is either low and high, or choices")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low must be < high, got {self.low} and {self.high}")
        if self.log and self.low is not None and self.low <= 0:
            raise ValueError(f"low of a log-uniform range must be > 0, got {self.low}")
        return self


class Sweep(Settings):
    """The `sweep` section: Ray Tune with ASHA over dotted keys, judged on validation users."""

    space: Annotated[dict[str, Range], Field(min_length=1)] = Field(
        default={"train.outer_lr": Range(low=1e-3, high=1e-1)}
    )
    trials: PositiveInt = 8
    steps: PositiveInt = 200
    rungs: Annotated[int, Field(ge=1, le=10)] = 4
    max_concurrent: PositiveInt = 2
    cpus_per_trial: PositiveFloat = 0.5


class Evaluate(Settings):
    """The `evaluate` section: what a table is made of."""

    ks: tuple[NonNegativeInt, ...] = (0, 1, 3, 5, 10)
    query_size: PositiveInt = 10
    min_positives: PositiveInt = 20
    positive_min: float = 4.0
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    mask: Literal["window", "support"] = "window"
    force: bool = False


class Serve(Settings):
    """The `serve` section: how the endpoint listens."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = "default"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    replicas: PositiveInt = 1
    haproxy: bool = True


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
    algorithm = tree.get("algorithm")
    if isinstance(algorithm, dict) and "name" not in algorithm:
        tree = {**tree, "algorithm": {"name": BayesianHead().name, **algorithm}}
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
    """Return `tree` with dotted keys replaced; a new algorithm first, its own keys after it."""
    for key in sorted(values, key=lambda key: key != "algorithm.name"):
        _assign(tree, key, values[key])
    return tree


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        branch = tree.setdefault(section, {})
        if not isinstance(branch, dict):
            raise ConfigError(
                f"{section} of {key} must be a section, got the value {branch!r} (--set)"
            )
        tree = branch
    if last == "name" and sections == ["algorithm"] and tree.get("name") != value:
        tree.clear()  # Another algorithm has other hyper-parameters; its own follow.
    tree[last] = value
