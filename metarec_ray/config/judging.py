"""The sections `evaluate`, `blend`, `second_stage` and `bench`: how learners are judged and joined.

Knows values and their rules; does not know what is judged.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from metarec_ray.algorithms.second_stage.rankers.networks import Networks
from metarec_ray.algorithms.second_stage.rankers.union import AnyRanker
from metarec_ray.config.tracking import TrackingUri
from metarec_ray.data.protocol_settings import (
    CrossDomain,
    ItemKshot,
    Ks,
    LeaveLastOut,
    RatingCut,
)
from metarec_ray.data.setting_types import Settings

Kind = Literal["floor", "rival", "control", "learner"]
"""As what a method stands in a table."""


class Evaluate(Settings):
    """The `evaluate` section: what a table is made of.

    Attributes:
        ks: support sizes, each once.
        query_size: events a method has to find, those after the first max(ks).
        min_positives: entities with fewer are not judged.
        positive_min: smallest label of a positive (explicit feedback).
        resamples: of the bootstrap.
        mask: what is left out of the candidates: the first max(ks) events at every k, or the k
            events of the support alone.
        boundary: `clean` judges only entities whose query begins later than their window ends,
            not inside one timestamp; needs a clock.
        force: judge fewer than 100 entities.
        validation_entities: that choices are made by, at most: what they cost does not grow with
            the log.

    """

    ks: Ks = (0, 1, 3, 5, 10)
    query_size: PositiveInt = 10
    min_positives: PositiveInt = 20
    positive_min: float = 4.0
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    mask: Literal["window", "support"] = "window"
    boundary: Literal["any", "clean"] = "any"
    force: bool = False
    validation_entities: PositiveInt = 2000
    ratings: RatingCut = RatingCut()
    item_kshot: ItemKshot = ItemKshot()
    cross_domain: CrossDomain = CrossDomain()
    leave_last_out: LeaveLastOut = LeaveLastOut()


class Blending(Settings):
    """The `blend` section: learners whose scores are added up.

    Attributes:
        members: name -> dotted keys of this experiment to replace (`algorithm.*`, `model.*` and
            `train.*`), as `--set` takes them; {} for no blend. In the order of their names, which
            is what their weights go by: files keep keys in orders of their own.
        rounds: of greedy selection [Caruana et al., 2004]; weights are multiples of 1 / rounds,
            chosen on validation entities for each k of `evaluate.ks`.

    """

    members: dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")], dict[str, Any]] = Field(
        default={}
    )
    rounds: Annotated[int, Field(ge=1, le=100)] = 20

    @field_validator("members")
    @classmethod
    def _by_name(cls, members: dict[str, Any]) -> dict[str, Any]:
        return dict(sorted(members.items()))

    @model_validator(mode="after")
    def _none_or_several(self) -> "Blending":
        if len(self.members) == 1:
            raise ValueError(f"a blend has two members or more, got {list(self.members)}")
        for name, keys in self.members.items():
            for key in keys:
                if key.partition(".")[0] not in ("algorithm", "model", "train"):
                    raise ValueError(
                        f"a member of a blend sets keys of algorithm, model and train, "
                        f"got {key} of {name}"
                    )
        return self


class SecondStage(Settings):
    """The `second_stage` section: a learned order of the best items of a first stage.

    The first stage is the experiment's learner, or its blend. It is fitted again for each fold,
    without the fold's entities; a ranker learns from what it says of those.

    Attributes:
        candidates: items of the first stage that are put in order.
        folds: equal shares of the training entities; so many fits of the ranker are averaged, each
            on all shares but one and judged on that.
        entities: newest entities that are learned from, at most.
        ranker: what orders the items.

    """

    candidates: Annotated[int, Field(ge=10, le=2000)] = 200
    folds: Annotated[int, Field(ge=2, le=20)] = 3
    entities: PositiveInt = 5000
    ranker: AnyRanker = Networks()


class BenchLearner(Settings):
    """One of `bench.learners`: sections of the experiment to change for it.

    Attributes:
        algorithm: keys to change; `algorithm.name` is needed without a blend.
        model: keys to change.
        train: keys to change.
        blend: the whole section; {} for no blend.
        second_stage: the whole section, {} for its defaults; none for no second stage.
        seeds: fits; by default `bench.seeds`, and 1 for closed forms.
        kind: as what it stands in the table; by default what its algorithm is. Learners are also
            held against the best `control`, such as one trained on the target domain alone.

    """

    algorithm: dict[str, Any] = Field(default={})
    model: dict[str, Any] = Field(default={})
    train: dict[str, Any] = Field(default={})
    blend: dict[str, Any] = Field(default={})
    second_stage: dict[str, Any] | None = None
    seeds: Annotated[int, Field(ge=1, le=100)] | None = None
    kind: Kind | None = None

    @model_validator(mode="after")
    def _says_what_it_is(self) -> "BenchLearner":
        if "name" not in self.algorithm and "members" not in self.blend:
            raise ValueError("a learner of a bench must have algorithm.name or blend.members")
        return self


class Bench(Settings):
    """The `bench` section: what `metarec bench` fits, and how long it may take.

    Attributes:
        seeds: fits of a learner that is not a closed form.
        cpu_minutes: a cell (one learner, one seed) that takes more is flagged in its rows; tuning a
            rival stops before its next candidate once half of it is spent.
        learners: name -> a learner; adds to the known ones, or replaces one.
        mlflow: tracking URI of MLflow, for the bench and its cells; None for no tracking there.
        tensorboard: write event files for TensorBoard into the folder `tensorboard` of the bench.

    """

    seeds: Annotated[int, Field(ge=1, le=100)] = 5
    cpu_minutes: PositiveFloat = 10.0
    learners: dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")], BenchLearner] = Field(
        default={}
    )
    mlflow: TrackingUri | None = None
    tensorboard: bool = False
