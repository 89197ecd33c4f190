"""The sections `run`, `train` and `serve`: where, how long, how fast.

Knows values and their rules; does not know what is trained.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from metarec_ray.algorithms.losses.union import AnyLoss
from metarec_ray.config.tracking import TrackingUri
from metarec_ray.core.parameters import Part
from metarec_ray.data.files.paths import identity, is_remote, split
from metarec_ray.data.setting_types import Place, Settings
from metarec_ray.data.tasks.augmentation import Augmentation
from metarec_ray.data.tasks.cuts import Cut
from metarec_ray.data.tasks.domains import Domains
from metarec_ray.data.tasks.folds import Fold
from metarec_ray.storage.uris import SCHEMES


def _folder(path: str) -> str:
    if not is_remote(path):
        return path
    scheme = path.partition("://")[0]
    if scheme == "file":
        return identity(path)
    if scheme not in SCHEMES:
        raise ValueError(f"a local path or a URI of {', '.join(SCHEMES)} is needed, got {path!r}")
    if not split(path)[0].partition("://")[2].strip("/").partition("/")[2]:
        raise ValueError(f"a URI must name a folder in a bucket, got {path!r}")
    return path


Folder = Annotated[Place, Field(min_length=1), AfterValidator(_folder)]
"""A local path, from `~` the home folder, or a URI of an object store, without a password."""


def _part_not_prefix(value: object) -> object:
    """Refuse what `train.freeze` once took, the beginnings of parameters' names."""
    if isinstance(value, str) and "." in value:
        first, parts = value.partition(".")[0], get_args(Part)
        wanted = first if first in parts else "head" if first == "offset" else "learner"
        if first == "context":
            wanted = "context, or learner for what the learner adds"
        raise ValueError(
            f"a part of the model is needed ({', '.join(parts)}), not the beginning of a name: "
            f"write {wanted}, got {value!r}"
        )
    return value


_OUTER_LOOP = (
    *("init_from", "freeze", "teacher", "teacher_weight", "teacher_temperature"),
    *("average", "periods", "replay", "anchor", "loss", "augmentation"),
)
_FrozenPart = Annotated[Part, BeforeValidator(_part_not_prefix)]
MOST_WORKERS = 4096
"""Of a run."""


class Run(Settings):
    """Where a run lies and the one seed that everything random is derived from.

    Attributes:
        dir: everything that the run writes.
        store: the task store; None for the folder `store` in `dir`.
        relative_to: where `dir`, `store`, `train.init_from` and `train.teacher` begin: the working
            folder, or that of the configuration. A run's own files say `configuration`.
        seed: all that is random derives from it.

    """

    dir: Folder = "runs/default"
    store: Folder | None = None
    relative_to: Literal["working_folder", "configuration"] = "working_folder"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Average(Settings):
    """The `train.average` section: models of disjoint users, averaged.

    `FedAvg` [McMahan et al., 2017, arXiv:1602.05629]: from one model each shard takes its own share
    of the steps, on its own entities; the mean of what they end with, weighted by entities, is the
    one model of the next round. `train.steps` is the number of meta-batches of all shards together.

    Attributes:
        shards: models trained beside each other.
        rounds: averages; 1 averages models that never met.

    """

    shards: Annotated[int, Field(ge=2, le=1024)] = 2
    rounds: PositiveInt = 1


class Keep(Settings):
    """The `train.keep` section: which checkpoints of a run are not removed.

    Attributes:
        last: the newest ones. With two, a damaged one costs the steps since the one before.
        best: those whose last `query_loss` was least.

    """

    last: PositiveInt = 3
    best: NonNegativeInt = 0


class Train(Settings):
    """The `train` section.

    Attributes:
        num_workers: Ray Train workers, or the fewest and the most of them, for what the cluster has
            room for; the parameters do not depend on it.
        device: `auto` takes a GPU a worker where the cluster has them.
        steps: meta-batches to train on, those of all shards and periods together.
        lanes: fixed shares of a meta-batch, each computed whole on one worker.
        lane_tasks: tasks of a lane.
        outer_lr: peak rate of the outer optimizer (AdamW).
        schedule: `cosine` warms up over a tenth of the steps and decays to zero.
        weight_decay: decay of weights, embeddings and touched rows; biases, learned rates and the
            prior's precisions are exempt.
        max_gradient_norm: the meta-gradient is scaled down to this norm.
        checkpoint_every, log_every: steps between checkpoints and between lines of metrics.
        keep: which checkpoints stay; the others are removed when a newer one is whole. With
            periods all stay: each is judged again when a run resumes.
        reference_items: size of the fixed sample that positives compete with in the inner loop.
        loss: what supports and queries are learned by; None for the softmax of implicit feedback,
            the squared error of ratings, the cross-entropy of clicks.
        max_failures: restarts of the worker group before a run gives up.
        parts: entities to train on; choices are made with `train`, judged on validation entities.
        without: a share of them that is left out; a second stage learns from what a fit says of
            entities it has not seen.
        tasks: how a history is cut into tasks.
        augmentation: how tasks are changed at random; None for tasks as they are cut.
        cpus_per_worker: CPUs a worker asks for; fractions let two cores hold all actors.
        placement: `pack` takes as few machines as hold the workers, `spread` as many as there are.
        init_from: a run's folder or a checkpoint; its parameters are copied where they mean the
            same: parameters of one name and shape, rows of tokens by their values and of items by
            their raw ids. The rest, and the optimizer, is fresh.
        freeze: parts of the model that are not updated: the encoder and ids of `item` or `user`,
            the encoder of `context`, the `head`, what the `learner` adds. With `init_from`, `[item,
            user]` is a frozen source with a new head.
        teacher: a run's folder or a checkpoint whose answers to the tasks are learned beside the
            labels; any learner or blend of the same store.
        teacher_weight: of the distance to its answers, where the loss of the labels has 1.
        teacher_temperature: of its probabilities and the student's; ratings have none.
        domains: a weighted joint loss over the domains of the items; None for tasks of everything.
        average: models of disjoint users, averaged; None for one model.
        periods: train on so many periods of the log one after another, a period's model being the
            start of the next, and measure what is forgotten (`forgetting.json`). Each takes an
            equal share of the events and of `steps`; 1 for everything at once.
        replay: share of a period's lanes whose tasks are cut from everything that was seen so far,
            this period included; the others are of this period alone.
        anchor: how strongly the parameters of a period are drawn to those it began with (L2-SP), in
            the units of `weight_decay`; 0 for not at all.
        mlflow: tracking URI of MLflow; None for no tracking there.
        tensorboard: write event files for TensorBoard into the run's folder `tensorboard`.

    """

    num_workers: int | tuple[int, int] = 2
    device: Literal["auto", "cpu", "cuda"] = "auto"
    steps: PositiveInt = 400
    lanes: PositiveInt = 4
    lane_tasks: PositiveInt = 32
    outer_lr: PositiveFloat = 0.01
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: Annotated[float, Field(ge=0)] = 0.5
    max_gradient_norm: PositiveFloat = 1.0
    checkpoint_every: PositiveInt = 200
    keep: Keep = Keep()
    log_every: PositiveInt = 20
    reference_items: PositiveInt = 512
    loss: AnyLoss | None = None
    cpus_per_worker: PositiveFloat = 0.5
    placement: Literal["pack", "spread"] = "pack"
    max_failures: NonNegativeInt = 3
    parts: Literal["train", "train+valid"] = "train+valid"
    without: Fold | None = None
    tasks: Cut = Cut()
    augmentation: Augmentation | None = None
    init_from: Folder | None = None
    freeze: tuple[_FrozenPart, ...] = ()
    teacher: Folder | None = None
    teacher_weight: Annotated[float, Field(ge=0)] = 1.0
    teacher_temperature: PositiveFloat = 1.0
    domains: Domains | None = None
    average: Average | None = None
    periods: Annotated[int, Field(ge=1, le=1000)] = 1
    replay: Annotated[float, Field(ge=0, le=1)] = 1.0
    anchor: Annotated[float, Field(ge=0)] = 1.0
    mlflow: TrackingUri | None = None
    tensorboard: bool = False

    def outer_loop(self) -> dict[str, Any]:
        """Return the keys set here that a learner without an outer loop cannot follow."""
        asked = {
            key: getattr(self, key)
            for key in _OUTER_LOOP
            if getattr(self, key) != Train.model_fields[key].default
        }
        if self.loss is not None:
            asked["loss"] = self.loss.name
        if self.domains is not None and (self.domains.source or len(self.domains.asked()) > 1):
            asked["domains"] = self.domains.weights
        return asked

    @field_validator("num_workers", mode="before")
    @classmethod
    def _a_number_or_two(cls, value: object) -> object:
        asked = value if isinstance(value, list | tuple) else [value, value]
        whole = all(type(one) is int and 1 <= one <= MOST_WORKERS for one in asked)
        if len(asked) != 2 or not whole:
            raise ValueError(
                f"a number of workers from 1 to {MOST_WORKERS} is needed, or the fewest and the "
                f"most, got {value}"
            )
        return value

    @model_validator(mode="after")
    def _a_lane_for_every_worker(self) -> "Train":
        fewest, most = self.workers
        if fewest > most:
            raise ValueError(f"num_workers must be the fewest and the most, got {fewest}, {most}")
        if most > self.lanes:
            raise ValueError(f"num_workers must be <= lanes {self.lanes}, got {most}")
        return self

    @property
    def workers(self) -> tuple[int, int]:
        """The fewest and the most workers."""
        asked = self.num_workers
        return (asked, asked) if isinstance(asked, int) else asked

    @model_validator(mode="after")
    def _replay_and_anchor_need_periods(self) -> "Train":
        for key in ("replay", "anchor"):
            value = getattr(self, key)
            if self.periods == 1 and value != Train.model_fields[key].default:
                raise ValueError(f"{key} needs periods > 1, got {value} and periods 1")
        return self

    @model_validator(mode="after")
    def _periods_keep_all(self) -> "Train":
        if self.periods > 1 and self.keep != Keep():
            raise ValueError(
                f"keep needs periods 1, got keep {self.keep.model_dump()} and periods "
                f"{self.periods}, which all have to stay"
            )
        return self

    @model_validator(mode="after")
    def _a_teacher_is_asked(self) -> "Train":
        for key in ("teacher_weight", "teacher_temperature"):
            value = getattr(self, key)
            if self.teacher is None and value != Train.model_fields[key].default:
                raise ValueError(f"{key} needs a teacher, got {value} and none")
        if self.teacher is not None and self.periods > 1:
            # It has learned from what later periods hold, and from entities that are held out.
            raise ValueError(f"periods must be 1 with a teacher, got {self.periods}")
        if self.teacher is not None and self.augmentation and self.augmentation.label_shift:
            # Its answers would be of other labels than the query has.
            shift = self.augmentation.label_shift
            raise ValueError(f"augmentation.label_shift must be 0 with a teacher, got {shift}")
        return self

    @model_validator(mode="after")
    def _steps_are_shared_out(self) -> "Train":
        if self.average and self.periods > 1:
            raise ValueError(f"periods must be 1 with average, got {self.periods}")
        if (self.average or self.periods > 1) and self.device == "cuda":
            raise ValueError("device must be auto or cpu with average or periods, got cuda")
        shared = self.average.shards * self.average.rounds if self.average else self.periods
        if self.steps % shared:
            among = "average.shards * average.rounds" if self.average else "periods"
            raise ValueError(
                f"steps must be a multiple of {shared}, {among}, so that each takes as many, got "
                f"{self.steps}"
            )
        return self

    @model_validator(mode="after")
    def _domains_rank_samples(self) -> "Train":
        several = self.domains and (self.domains.source or len(self.domains.asked()) > 1)
        if several and not self.tasks.negatives:
            raise ValueError(
                "tasks.negatives must be > 0 with several domains, whose catalogues differ, got 0"
            )
        return self


class Serve(Settings):
    """The `serve` section: how the endpoint listens."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = "default"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    replicas: PositiveInt = 1
    haproxy: bool = True
