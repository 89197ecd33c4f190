"""The JSON that goes in and out of the endpoint, and every limit on it.

Knows fields and limits; does not know HTTP, the model, or how errors are reported.
"""

import re
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    model_validator,
)
from pydantic_core import PydanticCustomError

from metarec_ray.inference.events import Said
from metarec_ray.inference.limits import MAX_SUPPORT

MAX_BODY_BYTES = 1 << 20
MAX_ITEMS = 500
MAX_K = 1000
MAX_ID_CHARS = 256
MAX_FIELDS = 64
MAX_FIELD_VALUES = 1024
# Far above any label or feature, whatever its unit.
MAX_VALUE = 1e12
MAX_FIELD = 1e12
DEFAULT_K = 10

LIMITS = {
    "body_bytes": MAX_BODY_BYTES,
    "support": MAX_SUPPORT,
    "items": MAX_ITEMS,
    "k": MAX_K,
    "id_chars": MAX_ID_CHARS,
    "fields": MAX_FIELDS,
    "field_values": MAX_FIELD_VALUES,
}

_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def _timestamp(value: object) -> object:
    # pydantic takes seconds since 1970 and half of ISO 8601, too.
    written = isinstance(value, str) and _RFC_3339.fullmatch(value)
    if not written and not isinstance(value, datetime):
        raise PydanticCustomError(
            "timestamp", "must be RFC 3339 with a zone, as 2026-11-20T23:59:00Z"
        )
    return value


Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)]
Text = Annotated[str, Field(max_length=MAX_ID_CHARS)]
Value = Annotated[float, Field(ge=-MAX_VALUE, le=MAX_VALUE)]
Number = Annotated[float, Field(ge=-MAX_FIELD, le=MAX_FIELD)]
Scalar = Text | Number
Bag = Annotated[list[Text], Field(max_length=MAX_FIELD_VALUES)]
Vector = Annotated[list[Number], Field(max_length=MAX_FIELD_VALUES)]
# Not strict: after a function pydantic takes text for Python's, in which a datetime is no text.
Timestamp = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_timestamp)]
Context = Annotated[dict[Id, Scalar], Field(max_length=MAX_FIELDS)]
FurtherLabels = Annotated[dict[Id, Number], Field(max_length=MAX_FIELDS)]
UserFields = Annotated[dict[Id, Scalar | Bag | Vector], Field(max_length=MAX_FIELDS)]


class Body(BaseModel):
    """A part of a request: frozen, strict about types, numbers finite, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class SupportItem(Body):
    """One event of the user; `timestamp` decides the order when every event has one.

    `value` is the label as the log has it, `event` the kind of event where the log has kinds,
    `labels` are further labels by name (seconds of dwell), as the log has them.
    """

    item_id: Id
    value: Value = 1.0
    event: Id | None = None
    timestamp: Timestamp | None = None
    context: Context = {}
    labels: FurtherLabels = {}

    @property
    def said(self) -> Said:
        """What the request says of the event."""
        return Said(self.value if "value" in self.model_fields_set else None, self.event)

    @property
    def microseconds(self) -> int:
        """The timestamp in microseconds, as in a task store; 0 without one."""
        return 0 if self.timestamp is None else round(self.timestamp.timestamp() * 1e6)


class Candidate(Body):
    """An item to rank."""

    id: Id


class RankRequest(Body):
    """Adapt on `support`, then rank `items`, or the whole catalogue without them.

    Attributes:
        request_id: comes back in the answer; one is made up without it.
        k: length of the answer; without it all of `items`, or 10 of the catalogue.
        context: of the moment that is ranked for.
        exclude_seen: items of the support do not come back.
        on_unknown: what becomes of a support event whose item the model does not know.

    """

    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] | None = None
    support: Annotated[list[SupportItem], Field(max_length=MAX_SUPPORT)] = []
    items: Annotated[list[Candidate], Field(min_length=1, max_length=MAX_ITEMS)] | None = None
    k: Annotated[int, Field(ge=1, le=MAX_K)] | None = None
    user_fields: UserFields = {}
    context: Context = {}
    exclude_seen: bool = True
    on_unknown: Literal["refuse", "drop"] = "refuse"

    @model_validator(mode="after")
    def _candidates_are_distinct(self) -> Self:
        if self.items and len({item.id for item in self.items}) < len(self.items):
            raise PydanticCustomError("distinct_items", "ids of items must be distinct")
        return self

    @model_validator(mode="after")
    def _all_events_or_none_have_a_timestamp(self) -> Self:
        timed = sum(event.timestamp is not None for event in self.support)
        if timed not in (0, len(self.support)):
            raise PydanticCustomError(
                "partial_timestamps",
                "timestamp must be given for every event of support or for none",
            )
        return self

    @property
    def length(self) -> int:
        """How many items are asked for."""
        return self.k or (len(self.items) if self.items else DEFAULT_K)

    @property
    def order(self) -> list[int]:
        """Positions of the support events, oldest first; as sent without timestamps."""
        times = [event.timestamp for event in self.support]
        seconds = [0.0 if time is None else time.timestamp() for time in times]
        return sorted(range(len(seconds)), key=seconds.__getitem__)


class Answer(BaseModel):
    """A part of a response: a reader ignores keys that a later server has added."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Adaptation(Answer):
    """What became of the support.

    `fallback` says why the prior answered although there were events to adapt on; null if it did
    not.
    """

    status: Literal["adapted", "prior"]
    support_used: int
    support_dropped: int
    fallback: Literal["scores-not-finite"] | None = None


class Ranked(Answer):
    """One item of the answer; an item that cannot be scored has a null score and stands last.

    `std` is the standard deviation of the label that the score predicts; null of models that have
    no posterior.
    """

    id: str
    title: str | None
    score: FiniteFloat | None
    rank: int
    cold: bool
    std: FiniteFloat | None = None


class RankResponse(Answer):
    """The answer to a rank request, best item first."""

    request_id: str
    model: str
    version: str
    took_ms: float
    adaptation: Adaptation
    items: list[Ranked]
    warnings: list[str] = []


class ModelCard(BaseModel):
    """What a model says of itself: name, version, limits, then its checkpoint's metadata."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    version: str
    limits: dict[str, int] = LIMITS


class Models(Answer):
    """Every model of an endpoint."""

    models: list[ModelCard]
