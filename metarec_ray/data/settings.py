"""Settings of a log, the `data` section: where it is, what its columns mean, how it is split.

Does not know how anything is read.
"""

from functools import cache
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from metarec_ray.data import times
from metarec_ray.data.setting_types import Moment, Place, Settings, TimeFormat
from metarec_ray.data.text_format import TextFormat

HELD_LAST = 2
"""Events of a history that `split: last` holds out: one to judge by, one before to choose by."""
DOMAIN = "domain"
"""Name of the item feature that `columns.domain` makes."""
Feedback = Literal["implicit", "binary", "explicit"]
Kind = Literal["categorical", "multi_categorical", "numeric", "vector"]
Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


# A call walks the files of all zones, 5 ms; a bench or a sweep makes hundreds of experiments.
_time_zones = cache(available_timezones)


def _kinds(weights: object) -> object:
    """Return weights whose kinds YAML took for numbers by the text of these."""
    if not isinstance(weights, dict):
        return weights
    return {str(k) if type(k) in (int, float) else k: weight for k, weight in weights.items()}


class Feature(Settings):
    """One feature column; `separator` splits a string into tokens, a list column needs none."""

    kind: Kind
    separator: str | None = None

    @model_validator(mode="after")
    def _separates_lists(self) -> "Feature":
        if self.separator is not None and self.kind in ("categorical", "numeric"):
            raise ValueError(
                f"a separator is of lists (multi_categorical, vector), got {self.separator!r} for "
                f"a {self.kind} feature"
            )
        return self


class FurtherLabel(Settings):
    """A further label of events, a column of numbers; an event may be without one."""

    kind: Literal["numeric"] = "numeric"


class SideTable(TextFormat):
    """A table of users or items, a row an id."""

    path: Place
    id: str
    title: str | None = None
    features: dict[str, Feature] = Field(default={})


class Columns(Settings):
    """The roles of the log's columns; only entity and item are required.

    `event` is a kind of event, for which `data.event_weights` gives the label; it replaces `label`.
    `domain` is the shop, market or catalogue of the item; an item is in one only, and has it as the
    categorical feature `domain`.
    """

    entity: Name = "user"
    item: Name = "item"
    label: Name | None = None
    event: Name | None = None
    time: Name | None = None
    sequence: Name | None = None
    domain: Name | None = None

    @model_validator(mode="after")
    def _are_two(self) -> "Columns":
        if self.entity == self.item:
            raise ValueError(f"entity and item must be two columns, got {self.item!r} for both")
        return self


class Rows(Settings):
    """The events of a log that a side file selects: its rows where `column` is `value`, as text.

    The file is Parquet or CSV, in the data folder, beside the log or below the working folder. Its
    rows are matched with the log's by the column that is the log's sequence.
    """

    path: Place
    column: str
    value: int | str


class Synthetic(Settings):
    """Constants of the model that generates the synthetic log.

    Attributes:
        mean_events: mean number of events of a user.
        signal_std: standard deviation over items of a user's taste p . q, in log-odds.
        prior_share: share of the variance of p that the user's features explain.
        own_share: share of the variance of q that the item's content does not explain.
        popularity_exponent: of the Zipf law of the items' base rates.

    """

    users: PositiveInt = 6400
    items: PositiveInt = 1000
    factors: PositiveInt = 16
    mean_events: PositiveFloat = 28.0
    signal_std: PositiveFloat = 2.5
    prior_share: Share = 0.5
    own_share: Share = 0.05
    popularity_exponent: PositiveFloat = 0.5


class Data(TextFormat):
    """The `data` section: from a log to a task store.

    Attributes:
        path: `synthetic`, the name of a known data set, a file, or a folder.
        format: with `delta`, `path` is the folder or URI of a Delta table; with `iceberg`, the name
            of a table in the catalog that pyiceberg is configured for.
        feedback: what a label means. `implicit`: every kept event is a positive. `binary`: 1 is a
            click, 0 is none. `explicit`: a rating.
        label_min: events with a smaller label are filtered (counted, not quarantined).
        only, without: side files that select events to keep, or to leave out; the others are
            filtered.
        columns: roles of the log's columns; None for the defaults of a known layout.
        event_weights: the label of each kind of event; other kinds are filtered.
        time_unit: of times that are numbers.
        time_zone: of dates and times without one.
        time_format: of times that are text, `%d/%m/%Y %H:%M:%S`; None for dates with one reading.
        since, until: events before `since`, or at or after `until`, are filtered.
        context: columns of an event that are model inputs: known before it.
        labels: columns of an event that are known after it, beside its label: what a learner may
            adapt on, and is never told of what it has to predict.
        entity: who has the histories. With `item` users and items swap their roles; the tables and
            the columns of the log are still named as they are.
        session_gap: seconds; a longer gap between two events of an entity ends a session, and each
            session is a task of its own.
        split: `time` holds out the last entities to begin, `hash` some by a hash of the raw id; so
            does a log without a clock. `last` holds out no entity but the last two events of each,
            for the protocol `leave_last_out`: others' later events are learned from.
        cutoff_quantile: the cutoff is when this share of the entities has begun; entities that
            begin at or after it are test entities. 1 for no test entities.
        cold_items: share of the items held out of training: the last to be met, or by hash. Their
            events stay in the store.
        valid_share: share of the training entities, the last to begin, held out for validation.
        ties: order of events with one timestamp: by sequence, then item id; or shuffled by `seed`,
            differently for each entity.
        versions: number of versions of the store to keep, the present one included.
        max_bad_share: a log with a larger share of bad rows is refused.
        max_events: later events of an entity are quarantined, and do not count as bad.

    """

    path: Place = "synthetic"
    format: Literal["files", "delta", "iceberg"] = "files"
    feedback: Feedback = "implicit"
    label_min: float | None = None
    only: Rows | None = None
    without: Rows | None = None
    columns: Columns | None = None
    event_weights: Annotated[dict[str, float], BeforeValidator(_kinds)] = Field(default={})
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    time_zone: str = "UTC"
    time_format: TimeFormat | None = None
    since: Moment | None = None
    until: Moment | None = None
    users: SideTable | None = None
    items: SideTable | None = None
    context: dict[str, Feature] = Field(default={})
    labels: dict[str, FurtherLabel] = Field(default={})
    buckets: Annotated[int, Field(ge=1, le=4096)] = 8
    entity: Literal["user", "item"] = "user"
    session_gap: Annotated[float, Field(gt=0, le=1e12)] | None = None
    split: Literal["time", "hash", "last"] = "time"
    cutoff_quantile: Annotated[float, Field(gt=0, le=1)] = 0.8
    cold_items: Annotated[float, Field(ge=0, lt=1)] = 0.0
    valid_share: Share = 0.1
    max_bad_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_events: PositiveInt = 100_000
    versions: PositiveInt = 2
    synthetic: Synthetic = Synthetic()
    ties: Literal["sequence", "shuffled"] = "sequence"
    seed: NonNegativeInt = 0

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in _time_zones():
            raise ValueError(f"a time zone must be one of the IANA names, got {name!r}")
        return name

    @model_validator(mode="after")
    def _spans_some_time(self) -> "Data":
        begin, end = self.span
        if begin is not None and end is not None and begin >= end:
            raise ValueError(f"since must be before until, got {self.since} and {self.until}")
        return self

    @model_validator(mode="after")
    def _weighs_events(self) -> "Data":
        named = self.columns or Columns()
        if (named.event is None) != (not self.event_weights):
            raise ValueError("columns.event and event_weights must be given together")
        if named.event is not None and named.label is not None:
            raise ValueError("columns must name a label or an event, got both")
        return self

    @model_validator(mode="after")
    def _tells_no_label_before_the_event(self) -> "Data":
        if both := sorted(self.labels.keys() & self.context.keys()):
            raise ValueError(f"a column must be of context or of labels, got {both[0]!r} for both")
        if self.columns is not None and (told := told_twice(self)):
            raise ValueError(told)
        return self

    @model_validator(mode="after")
    def _reads_what_it_sets(self) -> "Data":
        if self.columns is None:  # those of a known layout
            return self
        clock = [] if self.columns.time is not None else ["time_unit", "time_zone", "time_format"]
        labelled = self.columns.label is not None or self.columns.event is not None
        idle = [("time", key) for key in clock] + ([] if labelled else [("label", "label_min")])
        for column, key in idle:
            if getattr(self, key) != Data.model_fields[key].default:
                raise ValueError(f"columns.{column} must be named for {key}, got none")
        return self

    @model_validator(mode="after")
    def _holds_items_in_domains(self) -> "Data":
        if self.columns is None or self.columns.domain is None:
            return self
        if self.entity == "item":
            raise ValueError("columns.domain is of items and needs entity: user, got item")
        if self.items is not None and DOMAIN in self.items.features:
            raise ValueError(
                f"the domain of items must be in the log (columns.domain) or in their table "
                f"(items.features.{DOMAIN}), got both"
            )
        return self

    @property
    def span(self) -> tuple[int | None, int | None]:
        """`since` and `until` in microseconds, None for none."""
        begin, end = (
            None if moment is None else times.instant(moment, self.time_zone)
            for moment in (self.since, self.until)
        )
        return begin, end

    @property
    def held_last(self) -> int:
        """Number of last events of each history that nothing learns from."""
        return HELD_LAST if self.split == "last" else 0

    @property
    def labelled(self) -> bool:
        """Whether the log says the label of an event."""
        return self.roles.label is not None or self.roles.event is not None

    @property
    def event_features(self) -> dict[str, Feature]:
        """Context and further labels by their columns in a store: `context.` or `label.` + name."""
        context = {f"context.{name}": one for name, one in sorted(self.context.items())}
        return context | {f"label.{name}": Feature(kind="numeric") for name in sorted(self.labels)}

    @property
    def tie_seed(self) -> int | None:
        """Seed that shuffles events with one timestamp; None where the sequence decides."""
        return self.seed if self.ties == "shuffled" else None

    @property
    def roles(self) -> Columns:
        """Roles of the columns, swapped with `entity: item`."""
        named = self.columns if self.columns is not None else Columns()
        if self.entity == "user":
            return named
        return named.model_copy(update={"entity": named.item, "item": named.entity})

    @property
    def side_names(self) -> tuple[str, str]:
        """Names of the sections of entities and of items, swapped with `entity: item`."""
        return ("users", "items") if self.entity == "user" else ("items", "users")

    @property
    def sides(self) -> tuple[SideTable | None, SideTable | None]:
        """Tables of entities and of items, swapped with `entity: item`."""
        entities, held = (getattr(self, name) for name in self.side_names)
        return entities, held

    @property
    def held_features(self) -> dict[str, Feature]:
        """Features of the items in histories, the domain among them."""
        table = self.sides[1]
        features = {} if table is None else table.features
        domain = {} if self.roles.domain is None else {DOMAIN: Feature(kind="categorical")}
        return features | domain


def told_twice(settings: Data) -> str | None:
    """Return what is wrong with a column that has a role and is told as a feature, if one is.

    A further label must be none of what an event is. Context is told of candidates, so it must be
    neither which item it is nor how it was liked; who meets it and when are known before.
    """
    for role, name in (settings.columns or Columns()).model_dump().items():
        if name in settings.labels:
            return f"a column of labels must have no role, got {name!r} for {role}"
    predicted = settings.roles.model_dump(include={"item", "label", "event"})
    for role, name in predicted.items():
        if name in settings.context:
            return f"a column of context must be known before the event, got {name!r} for {role}"
    return None
