"""The HTTP application: routes to models that rank.

Knows routes, bodies and keys; does not know which learner answers or who runs the application.
Endpoints are `async` because ranking takes less time than a thread switch.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Annotated, Any, Protocol
from uuid import uuid4

from fastapi import APIRouter, Depends, FastAPI, Request, Response

from metarec_ray import __version__
from metarec_ray.data.log.labels import LabelRules
from metarec_ray.inference.events import Judged, judge
from metarec_ray.inference.rankings import Ranking
from metarec_ray.inference.recommender import SupportEvent
from metarec_ray.service import problems
from metarec_ray.service.auth import Keyring, presented
from metarec_ray.service.body import RANK_BODY, describe, read_body
from metarec_ray.service.problems import FieldError, Problem, pointer
from metarec_ray.service.requests import (
    Adaptation,
    ModelCard,
    Models,
    Ranked,
    RankRequest,
    RankResponse,
    SupportItem,
)

log = logging.getLogger(__name__)


class Ranker(Protocol):
    """A fitted model that ranks; `inference.recommender.Recommender` is one.

    `rules` are of the labels that were learned from, `fields` the names of features by side, and
    of further labels as `label`.
    """

    name: str
    version: str
    metadata: dict[str, Any]
    rules: LabelRules
    fields: Mapping[str, Sequence[str]]

    def knows(self, item_id: str) -> bool:
        """Whether the item is in the catalogue."""
        ...

    def rank(
        self,
        support: Sequence[SupportEvent],
        candidates: Sequence[str] | None = None,
        *,
        k: int = 10,
        user_fields: dict[str, Any] | None = None,
        context: dict[str, Any] | None = None,
        exclude_seen: bool = True,
    ) -> Ranking:
        """Adapt on the support, oldest event first, and return at most k items, best first."""
        ...


_KINDS = {"label": "further label"}
Wanted = Callable[[], Awaitable[bool]]


async def _always() -> bool:
    return True


def build_app(models: Mapping[str, Ranker], *, keys: Keyring, ready: Wanted = _always) -> FastAPI:
    """Return the application that serves `models` to the holders of `keys`.

    `ready` is asked by every readiness probe: False is a 503, whatever else works.
    """
    app = FastAPI(title="metarec-ray", version=__version__, docs_url=None, redoc_url=None)
    problems.install(app)
    app.include_router(_health(models, ready))
    app.include_router(_v1(models, keys))
    describe(app)
    return app


def _health(models: Mapping[str, Ranker], wanted: Wanted) -> APIRouter:
    """Return the probes of the Open Inference Protocol; they need no key."""
    router = APIRouter(prefix="/v2", tags=["health"])

    async def live() -> dict[str, bool]:
        return {"live": True}

    async def ready(response: Response) -> dict[str, bool]:
        answer = await wanted()
        response.status_code = 200 if answer else 503
        return {"ready": answer}

    async def model_ready(model: str, response: Response) -> dict[str, bool]:
        _find(models, model)
        return await ready(response)

    probes = {"/health/live": live, "/health/ready": ready, "/models/{model}/ready": model_ready}
    for path, probe in probes.items():
        router.get(path)(probe)
        # Load balancers ask with HEAD as well.
        router.head(path, include_in_schema=False)(probe)
    return router


def _v1(models: Mapping[str, Ranker], keys: Keyring) -> APIRouter:
    async def authorise(request: Request) -> None:
        key = presented(request.headers)
        if key is None or not keys.opens(key):
            raise Problem(
                401,
                "Authorization: Bearer KEY or X-API-Key: KEY must hold a valid API key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    router = APIRouter(prefix="/v1", tags=["rank"], dependencies=[Depends(authorise)])
    cards = {name: _card(name, ranker) for name, ranker in models.items()}

    @router.get("/models")
    async def list_models() -> Models:
        return Models(models=list(cards.values()))

    @router.get("/models/{model}")
    async def describe_model(model: str) -> ModelCard:
        _find(models, model)
        return cards[model]

    @router.post("/models/{model}/rank", response_model=RankResponse, openapi_extra=RANK_BODY)
    async def rank(model: str, body: Annotated[RankRequest, Depends(read_body)]) -> Response:
        answer = answer_rank(_find(models, model), model, body)
        return Response(answer.model_dump_json(), media_type="application/json")

    return router


def answer_rank(ranker: Ranker, name: str, body: RankRequest) -> RankResponse:
    """Return the ranking of one request.

    Raises:
        Problem: a support event names an unknown item and the request does not say to drop it; a
            label that nothing could be learned from; a field that the model does not know.
        NotFinite: the model's scores are not finite, also without the support.

    """
    started = perf_counter()
    _check_fields(ranker, body)
    unknown = {at for at, event in enumerate(body.support) if not ranker.knows(event.item_id)}
    if unknown and body.on_unknown == "refuse":
        raise _refusal(
            "/support/{}/item_id", [(at, "names an unknown item") for at in sorted(unknown)]
        )
    places = [at for at in body.order if at not in unknown]
    judged = judge([body.support[at].said for at in places], ranker.rules)
    if judged.rejected:
        wrong = [(places[at], "must be 0 or 1") for at in judged.rejected]
        raise _refusal("/support/{}/value", wrong)
    ranking = _ranked(ranker, body, [body.support[at] for at in places], judged)
    if ranking.diverged:
        log.warning("%s %s: scores after adapting are not finite", name, ranker.version)
    return RankResponse(
        request_id=body.request_id or uuid4().hex,
        model=name,
        version=ranker.version,
        took_ms=round((perf_counter() - started) * 1e3, 3),
        adaptation=Adaptation(
            status="adapted" if ranking.adapted else "prior",
            support_used=ranking.support_used,
            support_dropped=len(body.support) - ranking.support_used,
            fallback="scores-not-finite" if ranking.diverged else None,
        ),
        items=[
            Ranked(rank=place, **item._asdict())
            for place, item in enumerate(ranking.items, start=1)
        ],
        warnings=[*_warnings(len(unknown), ranking), *judged.notes],
    )


def _ranked(
    ranker: Ranker, body: RankRequest, known: Sequence[SupportItem], judged: Judged
) -> Ranking:
    """Return the ranking by the known events; items of the filtered ones are seen all the same."""
    hidden = {known[at].item_id for at in judged.filtered} if body.exclude_seen else set()
    candidates = [item.id for item in body.items if item.id not in hidden] if body.items else None
    ranking = ranker.rank(
        [
            SupportEvent(
                event.item_id,
                judged.labels[at],
                dict(event.context),
                event.microseconds,
                dict(event.labels),
            )
            for at, event in enumerate(known)
            if at not in judged.filtered
        ],
        candidates,
        k=body.length + len(hidden),
        user_fields=dict(body.user_fields) or None,
        context=dict(body.context) or None,
        exclude_seen=body.exclude_seen,
    )
    items = [item for item in ranking.items if item.id not in hidden][: body.length]
    return ranking._replace(items=items)


def _check_fields(ranker: Ranker, body: RankRequest) -> None:
    """Raise a Problem that names each field and further label that the model does not know."""
    bags = [("user", ("user_fields",), body.user_fields), ("context", ("context",), body.context)]
    bags += [
        ("context", ("support", at, "context"), e.context) for at, e in enumerate(body.support)
    ]
    bags += [("label", ("support", at, "labels"), e.labels) for at, e in enumerate(body.support)]
    errors = [
        FieldError(pointer((*place, name)), f"is not a {kind}, the {kind}s are {_listed(known)}")
        for side, place, bag in bags
        for kind, known in [(_KINDS.get(side, "field"), ranker.fields.get(side, ()))]
        for name in bag
        if name not in known
    ]
    if errors:
        raise Problem(422, f"{errors[0].pointer}: {errors[0].detail}", errors=errors)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _refusal(place: str, wrong: Sequence[tuple[int, str]]) -> Problem:
    errors = [FieldError(place.format(at), reason) for at, reason in wrong]
    drop = '; "on_unknown": "drop" leaves them out' if place.endswith("item_id") else ""
    more = f"({len(wrong)} such events{drop})"
    return Problem(422, f"{errors[0].pointer}: {errors[0].detail} {more}", errors=errors)


def _warnings(unknown: int, ranking: Ranking) -> list[str]:
    unscored = sum(item.score is None for item in ranking.items)
    warnings: list[str] = []
    if unknown:
        warnings.append(f"support events dropped because their item is unknown: {unknown}")
    if unscored:
        warnings.append(f"items ranked last without a score because they are unknown: {unscored}")
    if ranking.diverged:
        warnings.append(
            "ranked without the support, because adapting on it gives scores that are not finite"
        )
    return warnings


def _find(models: Mapping[str, Ranker], name: str) -> Ranker:
    if name not in models:
        raise Problem(
            404, "no model has this name, GET /v1/models lists them", kind=problems.MODEL_NOT_FOUND
        )
    return models[name]


def _card(name: str, ranker: Ranker) -> ModelCard:
    metadata = {key: value for key, value in ranker.metadata.items() if key not in _OURS}
    return ModelCard(name=name, version=ranker.version, **_finite(metadata))


_OURS = frozenset(ModelCard.model_fields)


def _finite(value: Any) -> Any:
    """Return the value with None for every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
