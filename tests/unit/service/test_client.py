import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from metarec_ray.errors import MachineError, RequestError
from metarec_ray.service.client import parse_support, rank, render
from metarec_ray.service.requests import RankResponse

ANSWER = {
    "request_id": "1",
    "model": "films",
    "version": "v3",
    "took_ms": 1.25,
    "adaptation": {"status": "adapted", "support_used": 2, "support_dropped": 0},
    "items": [
        {"id": "7", "title": "Alien\x1b[2J", "score": 4.5, "rank": 1, "cold": False},
        {"id": "new", "title": None, "score": None, "rank": 2, "cold": True},
    ],
    "warnings": ["one"],
    "later": "a key that a later server adds",
}
CARD = {"name": "films", "version": "v3"}


class Endpoint:
    """A server that answers what it was told to and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str, bytes, dict[str, str]]] = {}
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                endpoint.asked.append((self.path, dict(self.headers), body))
                status, media_type, text, headers = endpoint.answers[self.path]
                self.send_response(status)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(text)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def tell(self, path: str, status: int, content: object, **headers: str) -> None:
        plain = isinstance(content, str)
        text = content if isinstance(content, str) else json.dumps(content)
        problem = "application/problem+json" if status >= 400 else "application/json"
        self.answers[path] = (status, "text/plain" if plain else problem, text.encode(), headers)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    thread = threading.Thread(target=endpoint.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()
    thread.join()


RANK = "/v1/models/films/rank"


def test_the_only_model_of_an_endpoint_is_asked(endpoint: Endpoint) -> None:
    endpoint.tell("/v1/models", 200, {"models": [CARD]})
    endpoint.tell(RANK, 200, ANSWER)
    answer = rank(endpoint.url + "/", "7:4,9:1,8", k=3, api_key="the-key")
    assert [item.id for item in answer.items] == ["7", "new"]
    path, headers, body = endpoint.asked[-1]
    assert path == RANK
    assert headers["Authorization"] == "Bearer the-key"
    assert json.loads(body) == {
        # A value that is said is sent, also if it is the default.
        "support": [
            {"item_id": "7", "value": 4.0},
            {"item_id": "9", "value": 1.0},
            {"item_id": "8"},
        ],
        "k": 3,
    }


@pytest.mark.parametrize("path", ["/v1/models/films", "/v1/models/films/", RANK])
def test_a_model_is_asked_by_its_address(endpoint: Endpoint, path: str) -> None:
    endpoint.tell(RANK, 200, ANSWER)
    assert rank(endpoint.url + path, "", api_key=None).model == "films"
    assert len(endpoint.asked) == 1
    assert "Authorization" not in endpoint.asked[0][1]


@pytest.mark.parametrize(("names", "listed"), [([], "none"), (["b", "a"], "a, b")])
def test_an_endpoint_of_no_or_many_models_wants_a_name(
    endpoint: Endpoint, names: list[str], listed: str
) -> None:
    endpoint.tell("/v1/models", 200, {"models": [CARD | {"name": name} for name in names]})
    with pytest.raises(RequestError, match=f"must name a model .* it serves {listed}"):
        rank(endpoint.url, "7", api_key="k")


@pytest.mark.parametrize(
    ("status", "content", "error", "sentence"),
    [
        (422, {"detail": "/support/0/item_id: unknown"}, RequestError, "/support/0/item_id: unkno"),
        (401, {"detail": "x"}, RequestError, "must be asked with its API key: set METAREC_API_KEY"),
        (404, {"detail": "no model"}, RequestError, r"no model \(HTTP 404, http://127"),
        (404, "Path not found", RequestError, "the endpoint answered Not Found"),
        (503, "Request dropped due to backpressure", MachineError, "overloaded: ask again in 7 s"),
        (408, "Request timed out", MachineError, "took too long to answer"),
        (504, {"detail": "x"}, MachineError, "took too long to answer"),
        (500, "Internal Server Error", MachineError, "answered Internal Server Error"),
        (500, {"detail": 7}, MachineError, "answered Internal Server Error"),
        (302, {}, MachineError, "the endpoint answered Found"),
    ],
)
def test_a_refusal_becomes_one_sentence(
    endpoint: Endpoint, status: int, content: object, error: type[Exception], sentence: str
) -> None:
    headers = {"Retry-After": "7", "Location": "/elsewhere"}
    endpoint.tell(RANK, status, content, **headers)
    with pytest.raises(error, match=sentence):
        rank(endpoint.url + "/v1/models/films", "7", api_key="k")
    assert len(endpoint.asked) == 1


def test_an_answer_of_another_form_is_refused(endpoint: Endpoint) -> None:
    endpoint.tell(RANK, 200, {"hello": 1})
    with pytest.raises(MachineError, match="must have this API's form"):
        rank(endpoint.url + "/v1/models/films", "7", api_key="k")


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(MachineError, match=r"must answer, got .*refused.*127\.0\.0\.1:9"):
        rank("http://127.0.0.1:9", "7", api_key="k")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8000", "http://", "http://a:x"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match="must be http://HOST:PORT, got"):
        rank(url, "7", api_key="k")


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("5:4,7", [("5", 4.0), ("7", 1.0)]),
        (" 5 : 4 , 7:-0.5 ", [("5", 4.0), ("7", -0.5)]),
        ("isbn:1:5", [("isbn:1", 5.0)]),
        ("", []),
        ("  ", []),
    ],
)
def test_support_is_written_as_ids_with_values(text: str, events: list[tuple[str, float]]) -> None:
    assert [(event.item_id, event.value) for event in parse_support(text)] == events


@pytest.mark.parametrize("text", ["5:x", "5:", ":4", "5:nan", "5:inf", "5:1e13", "5,,7", "x" * 257])
def test_support_that_is_written_wrong_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--support must be ID or ID:VALUE with a finite value"):
        parse_support(text)


def test_limits_are_told_before_anything_is_sent() -> None:
    with pytest.raises(RequestError, match=r"-k: Input should be greater .* 1, got 0"):
        rank("http://127.0.0.1:9", "7", k=0, api_key="k")
    with pytest.raises(RequestError, match=r"--support: .* at most 200 items.*, got 201 events"):
        rank("http://127.0.0.1:9", ",".join(["7"] * 201), api_key="k")


def test_the_table_shows_titles_and_steers_no_terminal() -> None:
    lines = render(RankResponse.model_validate(ANSWER)).splitlines()
    assert lines == [
        "films v3: adapted, 2 support events used, 0 dropped, 1.2 ms",
        "   title      id    score",
        "1  Alien?[2J  7    4.5000",
        "2  - (new)    new       -",
        "warning: one",
    ]


def test_the_table_says_how_sure_a_model_is_that_knows() -> None:
    sure = ANSWER | {"items": [ANSWER["items"][0] | {"std": 0.875}, ANSWER["items"][1]]}
    lines = render(RankResponse.model_validate(sure)).splitlines()
    assert lines[1:4] == [
        "   title      id    score     std",
        "1  Alien?[2J  7    4.5000  0.8750",
        "2  - (new)    new       -       -",
    ]
