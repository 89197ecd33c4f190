"""Every error of the endpoint as a problem document [RFC 9457], without content of the request.

Knows HTTP errors; does not know what the endpoint computes.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException

from metarec_ray.errors import NotFinite, RequestError
from metarec_ray.service.requests import Candidate, RankRequest, SupportItem

BASE = "https://metarec-ray.dev/problems/"
MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 16
FIELDS = {*RankRequest.model_fields, *SupportItem.model_fields, *Candidate.model_fields}

log = logging.getLogger(__name__)


class Kind(NamedTuple):
    """A type of problem: its name in the URI, and its title."""

    slug: str
    title: str


KINDS = {
    400: Kind("malformed-json", "The body is not JSON"),
    401: Kind("unauthorized", "The API key is missing or wrong"),
    404: Kind("not-found", "Nothing lives at this address"),
    405: Kind("method-not-allowed", "The address does not answer this method"),
    413: Kind("payload-too-large", "The body is too large"),
    415: Kind("unsupported-media-type", "The body must be JSON"),
    422: Kind("invalid-request", "Request is not valid"),
    500: Kind("internal", "The server failed"),
    503: Kind("overloaded", "The server is overloaded"),
    504: Kind("deadline-exceeded", "The answer took too long"),
}
MODEL_NOT_FOUND = Kind("model-not-found", "There is no such model")


class FieldError(NamedTuple):
    """What is wrong at one place of the body; `pointer` is a JSON pointer [RFC 6901]."""

    pointer: str
    detail: str


class Problem(Exception):
    """An error that is answered with a problem document."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: Kind | None = None,
        errors: Sequence[FieldError] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind or KINDS[status]
        self.errors = errors[:MAX_ERRORS]
        self.headers = headers


def document(problem: Problem, request_id: str) -> dict[str, object]:
    """Return the problem document; `instance` identifies this occurrence."""
    content: dict[str, object] = {
        "type": BASE + problem.kind.slug,
        "title": problem.kind.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": f"urn:metarec:request:{request_id}",
        "request_id": request_id,
    }
    if problem.errors:
        content["errors"] = [error._asdict() for error in problem.errors]
    return content


def from_validation(error: ValidationError) -> Problem:
    """Return 400 for a body that is not JSON, else 422 with a pointer to every error."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    if any(detail["type"] == "json_invalid" for detail in details):
        return Problem(400, "body must be one JSON object in UTF-8")
    errors = [FieldError(_pointer(detail["loc"]), _sentence(detail)) for detail in details]
    first = errors[0]
    return Problem(422, f"{first.pointer or 'body'}: {first.detail}", errors=errors)


def at_place(place: tuple[int | str, ...], detail: str) -> Problem:
    """Return the 422 of one thing that is wrong at one place of the body."""
    error = FieldError(_pointer(place), detail)
    return Problem(422, f"{error.pointer or 'body'}: {detail}", errors=[error])


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""
    app.exception_handler(Problem)(_refuse)
    app.exception_handler(HTTPException)(_http)
    app.exception_handler(RequestError)(_request)
    app.exception_handler(NotFinite)(_not_finite)
    app.exception_handler(RequestValidationError)(_validation)
    app.exception_handler(Exception)(_crash)


def _pointer(location: tuple[int | str, ...]) -> str:
    """Return the location up to the first key that is the client's: those are not repeated."""
    known: list[str] = []
    for part in location:
        if isinstance(part, str) and part not in FIELDS:
            break
        known.append(str(part))
    return pointer(known)


def pointer(place: Sequence[str | int]) -> str:
    """Return a place in a body as a JSON pointer [RFC 6901].

    >>> pointer(("user_fields", "a/b"))
    '/user_fields/a~1b'
    """
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


def _sentence(detail: ErrorDetails) -> str:
    if detail["type"] != "extra_forbidden":
        return detail["msg"]
    place = detail["loc"][0] if len(detail["loc"]) > 1 else None
    model = {"support": SupportItem, "items": Candidate}.get(str(place), RankRequest)
    return f"has an unknown key, the keys are {', '.join(model.model_fields)}"


def _answer(request: Request, problem: Problem) -> JSONResponse:
    request_id = getattr(request.state, "request_id", None) or uuid4().hex
    return JSONResponse(
        document(problem, request_id),
        status_code=problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return _answer(request, error)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = error.status_code if error.status_code in KINDS else 500
    headers = dict(error.headers) if error.headers else None
    return _answer(request, Problem(status, KINDS[status].title.lower(), headers=headers))


async def _request(request: Request, error: Exception) -> JSONResponse:
    # Our sentences end with the value that was sent: "k must be >= 1, got 0".
    return _answer(request, Problem(422, str(error).partition(", got ")[0]))


async def _validation(request: Request, error: Exception) -> JSONResponse:
    return _answer(request, Problem(422, "the address is not valid"))


async def _not_finite(request: Request, error: Exception) -> JSONResponse:
    log.error("a model cannot rank: %s", error)
    detail = "the model's scores are not finite, with or without the support: it cannot rank"
    return _answer(request, Problem(500, detail))


async def _crash(request: Request, error: Exception) -> JSONResponse:
    problem = Problem(500, "the request was understood and answering it failed")
    response = _answer(request, problem)
    log.error("a request failed with %s", type(error).__name__)
    return response
