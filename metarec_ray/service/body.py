"""Reading a request's body: media type, size, JSON and validation, in this order.

Does not know what a body asks for. FastAPI's own parsing is not used: its size limit answers in
plain text, and its parser accepts NaN, which later becomes a 500.
"""

from typing import Any

from fastapi import FastAPI, Request
from pydantic import ValidationError

from metarec_ray.service.json_keys import said_twice
from metarec_ray.service.problems import Problem, at_place, from_validation
from metarec_ray.service.requests import MAX_BODY_BYTES, RankRequest

# A client that is still sending does not read the answer: so much of the excess is read as well.
DRAIN_BYTES = 16 * MAX_BODY_BYTES
SCHEMAS = "#/components/schemas/{model}"
RANK_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": SCHEMAS.format(model=RankRequest.__name__)}}
        },
    }
}


async def read_body(request: Request) -> RankRequest:
    """Return the validated body; at most the limit is held in memory."""
    _check_media_type(request)
    kept = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            kept += chunk
        elif size > DRAIN_BYTES:
            break
    if size > MAX_BODY_BYTES:
        raise Problem(413, f"body must have at most {MAX_BODY_BYTES} bytes")
    try:
        body = RankRequest.model_validate_json(kept)
    except ValidationError as error:
        raise from_validation(error) from None
    if (place := said_twice(kept)) is not None:
        raise at_place(place, "is there twice")
    request.state.request_id = body.request_id
    return body


def describe(app: FastAPI) -> None:
    """Add the schemas of these bodies to the OpenAPI document."""
    document = app.openapi()
    schema = RankRequest.model_json_schema(ref_template=SCHEMAS)
    parts = schema.pop("$defs")
    document["components"]["schemas"] |= {**parts, RankRequest.__name__: schema}


def _check_media_type(request: Request) -> None:
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media_type.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise Problem(415, "content-type must be application/json in UTF-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "content-encoding must be identity")
