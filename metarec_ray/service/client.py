"""A client of the endpoint for the command line, with the standard library only.

Knows addresses, the API and the plain-text errors of proxies; does not know the model.
"""

import json
import math
import unicodedata
from collections.abc import Sequence
from http.client import HTTPException
from ipaddress import ip_address
from typing import TypeVar
from urllib.error import HTTPError
from urllib.parse import SplitResult, quote, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from pydantic import BaseModel, ValidationError

from metarec_ray.errors import MachineError, RequestError
from metarec_ray.service.requests import Models, RankRequest, RankResponse, SupportItem

Reply = TypeVar("Reply", bound=BaseModel)
TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 8 << 20


def rank(
    url: str, support: str, *, k: int = 10, api_key: str | None, timeout_s: float = TIMEOUT_S
) -> RankResponse:
    """Return the endpoint's ranking for a user with this support.

    `url` is an endpoint (`http://127.0.0.1:8000`, which must serve one model) or a model
    (`.../v1/models/NAME`); `support` is in the notation of `parse_support`.

    Raises:
        RequestError: the request is wrong, or the endpoint refuses it.
        MachineError: the endpoint does not answer, takes too long, or fails.

    """
    body = _body(support, k)
    endpoint = Endpoint(url, api_key, timeout_s)
    model = _model_url(endpoint)
    return endpoint.ask(f"{model}/rank", RankResponse, body)


def parse_support(text: str) -> list[SupportItem]:
    """Return the events of `ID` or `ID:VALUE`, separated by commas, oldest first.

    >>> [(event.item_id, event.value) for event in parse_support("5:4,7")]
    [('5', 4.0), ('7', 1.0)]

    The value follows the last colon: an id may contain colons if a value is given.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    return [_event(part, at) for at, part in enumerate(parts, start=1)]


def render(answer: RankResponse) -> str:
    """Return the answer as a table for a terminal: rank, title, id, score, std if it has any."""
    used = answer.adaptation
    lines = [
        f"{answer.model} {answer.version}: {used.status}, {used.support_used} support events used, "
        f"{used.support_dropped} dropped, {answer.took_ms:.1f} ms"
    ]
    sure = any(item.std is not None for item in answer.items)
    rows = [("", "title", "id", "score", "std")]
    for item in answer.items:
        title = _printable(item.title or "-") + (" (new)" if item.cold else "")
        numbers = _number_text(item.score), _number_text(item.std)
        rows.append((str(item.rank), title, _printable(item.id), *numbers))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for place, title, item_id, score, std in rows:
        line = f"{place:>{widths[0]}}  {title:<{widths[1]}}  {item_id:<{widths[2]}}  "
        more = f"  {std:>{widths[4]}}" if sure else ""
        lines.append(f"{line}{score:>{widths[3]}}{more}")
    return "\n".join([*lines, *(f"warning: {_printable(warning)}" for warning in answer.warnings)])


def _number_text(number: float | None) -> str:
    return "-" if number is None else f"{number:.4f}"


class Endpoint:
    """The address of an endpoint, a key and a timeout.

    Raises:
        RequestError: the address is not one of http or https.

    """

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self.parts = _split(self.url)
        self.headers = {"Accept": "application/json"}
        if api_key is not None:
            self.headers["Authorization"] = f"Bearer {api_key}"
        self.timeout_s = timeout_s
        self.opener = _opener(self.parts)

    def ask(self, url: str, reply: type[Reply], body: RankRequest | None = None) -> Reply:
        data = body.model_dump_json(exclude_unset=True).encode() if body else None
        headers = self.headers | ({"Content-Type": "application/json"} if data else {})
        try:
            request = Request(url, data, headers)
            with self.opener.open(request, timeout=self.timeout_s) as response:
                text = response.read(MAX_ANSWER_BYTES)
            return reply.model_validate_json(text)
        except HTTPError as error:
            with error:
                raise _told(error, url) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                reason = f"none within {self.timeout_s:g} s"
            raise MachineError(f"an endpoint must answer, got {reason} ({url})") from error
        except ValidationError as error:
            raise MachineError(f"an answer must have this API's form ({url})") from error


def _opener(parts: SplitResult) -> OpenerDirector:
    """Return an opener for http and https that follows no redirect, which would get the key.

    It uses the proxy of the environment, except for this machine.
    """
    opener = OpenerDirector()
    handlers = [HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor]
    for handler in handlers if _is_loopback(parts) else [*handlers, ProxyHandler]:
        opener.add_handler(handler())
    return opener


def _is_loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    if not usable:
        raise RequestError(f"an endpoint's address must be http://HOST:PORT, got {url!r}")
    return urlsplit(url)


def _model_url(endpoint: Endpoint) -> str:
    base, found, name = endpoint.url.partition("/v1/models")
    name = name.removesuffix("/rank").strip("/")
    if found and name:
        return f"{base}/v1/models/{name}"
    models = endpoint.ask(f"{base}/v1/models", Models).models
    if len(models) != 1:
        names = ", ".join(sorted(model.name for model in models)) or "none"
        raise RequestError(
            f"the address must name a model (URL/v1/models/NAME) unless the endpoint serves one, "
            f"it serves {names} ({endpoint.url})"
        )
    return f"{base}/v1/models/{quote(models[0].name, safe='')}"


def _body(support: str, k: int) -> RankRequest:
    events = parse_support(support)
    try:
        return RankRequest(support=events, k=k)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "-k" if first["loc"] == ("k",) else "--support"
        raise RequestError(f"{place}: {first['msg']}, got {_got(first['input'])}") from None


def _got(value: object) -> str:
    return f"{len(value)} events" if isinstance(value, Sequence) else repr(value)


def _event(part: str, at: int) -> SupportItem:
    item_id, colon, number = part.rpartition(":")
    said = {"item_id": item_id.strip(), "value": _number(number)} if colon else {"item_id": part}
    try:
        return SupportItem.model_validate(said)
    except ValidationError:
        raise RequestError(
            f"--support must be ID or ID:VALUE with a finite value, got {part!r} (event {at})"
        ) from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _told(error: HTTPError, url: str) -> MachineError | RequestError:
    """Return an error as one sentence: of a problem document, or plain text of a proxy."""
    detail = _detail(error)
    sentences = {
        401: "the endpoint must be asked with its API key: set METAREC_API_KEY",
        408: "the endpoint took too long to answer: ask again",
        503: f"the endpoint is overloaded: ask again in {error.headers.get('Retry-After', '1')} s",
        504: "the endpoint took too long to answer: ask again",
    }
    sentence = sentences.get(error.code) or detail or f"the endpoint answered {error.reason}"
    kind = RequestError if 400 <= error.code < 500 and error.code != 408 else MachineError
    return kind(f"{_printable(sentence)} (HTTP {error.code}, {url})")


def _detail(error: HTTPError) -> str | None:
    if error.headers.get_content_type() != "application/problem+json":
        return None
    try:
        content = json.loads(error.read(MAX_ANSWER_BYTES))
    except ValueError:
        return None
    detail = content.get("detail") if isinstance(content, dict) else None
    return detail if isinstance(detail, str) else None


def _printable(text: str) -> str:
    """Return the text without control characters, so that a title cannot control the terminal."""
    return "".join("?" if unicodedata.category(char).startswith("C") else char for char in text)
