import inspect
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import Response

from metarec_ray.data.log.labels import LabelRules
from metarec_ray.errors import NotFinite
from metarec_ray.inference.rankings import Ranking
from metarec_ray.service.app import build_app
from metarec_ray.service.auth import Keyring
from metarec_ray.service.requests import MAX_BODY_BYTES, ModelCard
from tests.unit.service.fakes import KEY, Client, FakeRanker

DAWN = "2026-01-01T00:00:00Z"
RANK = "/v1/models/films/rank"
BEARER = {"Authorization": f"Bearer {KEY}"}
JSON = BEARER | {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def served() -> FakeRanker:
    return FakeRanker()


@pytest.fixture(scope="module")
def client(served: FakeRanker) -> Client:
    return Client(build_app({"films": served}, keys=Keyring.of(KEY)))


@pytest.fixture
def ranker(served: FakeRanker) -> FakeRanker:
    """What the client asks, before it has been asked anything."""
    served.asked = []
    return served


def raw(client: Client, body: bytes | str, headers: dict[str, str] = JSON) -> Response:
    return client.post(RANK, content=body, headers=headers)


def ask(client: Client, **body: object) -> Response:
    return client.post(RANK, json=body, headers=BEARER)


def problem(response: Response, status: int, slug: str) -> dict[str, object]:
    """Check the form of a refusal and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert content["type"] == f"https://metarec-ray.dev/problems/{slug}"
    assert content["status"] == status
    assert content["request_id"] in content["instance"]
    return content


def ids(response: Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


def test_a_support_set_is_adapted_on_and_the_catalogue_ranked(client: Client) -> None:
    answer = ask(client, support=[{"item_id": "8", "value": 2}], k=2, request_id="a-1").json()
    assert answer.pop("took_ms") >= 0
    # Score 10 - position + sum of the labels; item 8 has been seen.
    alien = {"id": "7", "title": "Alien", "rank": 1, "cold": False}
    casablanca = {"id": "9", "title": "Casablanca", "rank": 2, "cold": False}
    assert answer == {
        "request_id": "a-1",
        "model": "films",
        "version": "v3",
        "adaptation": {
            "status": "adapted",
            "support_used": 1,
            "support_dropped": 0,
            "fallback": None,
        },
        "items": [
            alien | {"score": 10.0 - 0 + 2, "std": 0.5},
            casablanca | {"score": 10.0 - 2 + 2, "std": 0.5},
        ],
        "warnings": [],
    }


def test_an_empty_support_is_the_prior(client: Client) -> None:
    answer = ask(client).json()
    assert answer["adaptation"] == {
        "status": "prior",
        "support_used": 0,
        "support_dropped": 0,
        "fallback": None,
    }
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3, 4]
    assert answer["items"][3]["cold"] is True


def test_scores_that_are_no_numbers_are_said_to_be_replaced_by_the_prior(
    client: Client,
    ranker: FakeRanker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    prior = ranker.rank([], ["7", "9"])._replace(diverged=True)
    monkeypatch.setattr(ranker, "rank", lambda *args, **options: prior)
    answer = ask(client, support=[{"item_id": "8", "value": 1e12}]).json()
    assert answer["adaptation"] == {
        "status": "prior",
        "support_used": 0,
        "support_dropped": 1,
        "fallback": "scores-not-finite",
    }
    assert [item["id"] for item in answer["items"]] == ["7", "9"]
    assert answer["warnings"] == [
        "ranked without the support, because adapting on it gives scores that are not finite"
    ]
    assert caplog.messages == ["films v3: scores after adapting are not finite"]


def test_a_model_that_cannot_rank_at_all_is_a_server_error_that_says_so(
    client: Client, ranker: FakeRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rank(*args: Any, **options: Any) -> Ranking:
        raise NotFinite("scores must be finite, films v3 gives NaN or infinite ones")

    monkeypatch.setattr(ranker, "rank", rank)
    content = problem(ask(client), 500, "internal")
    assert content["detail"] == (
        "the model's scores are not finite, with or without the support: it cannot rank"
    )


def test_given_items_are_ranked_and_unknown_ones_stand_last_without_a_score(
    client: Client,
) -> None:
    response = ask(client, items=[{"id": "x"}, {"id": "9"}, {"id": "7"}])
    assert ids(response) == ["7", "9", "x"]
    assert response.json()["items"][2]["score"] is None
    assert response.json()["items"][2]["std"] is None
    assert response.json()["warnings"] == [
        "items ranked last without a score because they are unknown: 1"
    ]


def test_seen_items_come_back_when_asked_for(client: Client) -> None:
    support = [{"item_id": "7"}]
    assert ids(ask(client, support=support, k=1)) == ["8"]
    assert ids(ask(client, support=support, k=1, exclude_seen=False)) == ["7"]


def test_timestamps_order_the_support(client: Client, ranker: FakeRanker) -> None:
    late, early = "2026-03-01T00:00:00Z", "2026-03-01T00:30:00+01:00"
    ask(
        client,
        support=[{"item_id": "7", "timestamp": late}, {"item_id": "8", "timestamp": early}],
    )
    assert [event.item for event in ranker.asked] == ["8", "7"]


def test_context_and_value_reach_the_ranker(client: Client, ranker: FakeRanker) -> None:
    ask(client, support=[{"item_id": "7", "value": 3, "context": {"hour": 5, "device": "tv"}}])
    assert ranker.asked[0] == ("7", 3.0, {"hour": 5.0, "device": "tv"}, 0, {})


def test_further_labels_reach_the_ranker(
    client: Client, ranker: FakeRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranker, "fields", {**ranker.fields, "label": ["click", "dwell"]})
    ask(client, support=[{"item_id": "7", "labels": {"dwell": 12.5, "click": 1}}])
    assert ranker.asked[0].labels == {"dwell": 12.5, "click": 1.0}


def test_a_further_label_that_is_not_known_is_refused_by_its_place(
    client: Client, ranker: FakeRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    support = [{"item_id": "7"}, {"item_id": "8", "labels": {"dwell": 1}}]
    content = problem(ask(client, support=support), 422, "invalid-request")
    assert content["errors"] == [
        {
            "pointer": "/support/1/labels/dwell",
            "detail": "is not a further label, the further labels are none",
        }
    ]
    monkeypatch.setattr(ranker, "fields", {**ranker.fields, "label": ["click"]})
    content = problem(ask(client, support=support), 422, "invalid-request")
    assert str(content["detail"]).startswith("/support/1/labels/dwell: is not a further label")


def test_timestamps_reach_the_ranker_in_microseconds(client: Client, ranker: FakeRanker) -> None:
    ask(client, support=[{"item_id": "7", "timestamp": "1970-01-01T00:01:00.5Z"}])
    assert ranker.asked[0].time == 60_500_000


def test_an_unknown_support_item_is_refused_naming_its_position(client: Client) -> None:
    response = ask(client, support=[{"item_id": "7"}, {"item_id": "secret-id"}], request_id="r.9")
    content = problem(response, 422, "invalid-request")
    assert content["errors"] == [
        {"pointer": "/support/1/item_id", "detail": "names an unknown item"}
    ]
    assert content["request_id"] == "r.9"
    assert "secret-id" not in response.text


def test_unknown_support_items_are_dropped_with_a_warning_when_asked_for(
    client: Client, ranker: FakeRanker
) -> None:
    support = [{"item_id": "x"}, {"item_id": "7", "value": 1}]
    response = ask(client, support=support, on_unknown="drop")
    assert response.json()["adaptation"] == {
        "status": "adapted",
        "support_used": 1,
        "support_dropped": 1,
        "fallback": None,
    }
    assert response.json()["warnings"] == [
        "support events dropped because their item is unknown: 1"
    ]
    assert [event.item for event in ranker.asked] == ["7"]


def test_models_are_listed_and_described_with_numbers_that_json_can_hold(
    client: Client,
) -> None:
    card = client.get("/v1/models/films", headers=BEARER).json()
    assert client.get("/v1/models", headers=BEARER).json() == {"models": [card]}
    assert ModelCard.model_validate(card).name == "films"
    assert card["algorithm"] == "fake"
    assert card["metrics"] == {"ndcg@10": None}
    assert card["limits"]["support"] == 200


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/films/ready"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_probes_answer_without_a_key(client: Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 200
    assert bool(answer.content) == (method == "GET")


def test_an_endpoint_that_wants_no_traffic_is_alive_not_ready_and_still_answers(
    served: FakeRanker,
) -> None:
    wanted = [True]

    async def ready() -> bool:
        return wanted[0]

    client = Client(build_app({"films": served}, keys=Keyring.of(KEY), ready=ready))
    assert client.get("/v2/health/ready").json() == {"ready": True}
    wanted[0] = False
    for path in ("/v2/health/ready", "/v2/models/films/ready"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (503, {"ready": False})
        assert client.request("HEAD", path).status_code == 503
    assert client.get("/v2/health/live").status_code == 200
    assert ids(ask(client, k=1))


def test_every_route_but_the_probes_asks_for_a_key(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    guarded = {path for path in paths if not path.startswith("/v2/")}
    assert guarded == {"/v1/models", "/v1/models/{model}", "/v1/models/{model}/rank"}
    for path in guarded:
        for method in paths[path]:
            response = client.request(method, path.replace("{model}", "films"))
            problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic " + KEY},
        {"Authorization": "Bearer"},
        {"X-API-Key": KEY + "x"},
        {"X-API-Key": ""},
    ],
)
def test_a_wrong_key_opens_nothing(client: Client, headers: dict[str, str]) -> None:
    problem(client.get("/v1/models", headers=headers), 401, "unauthorized")


@pytest.mark.parametrize(
    "headers", [BEARER, {"X-API-Key": KEY}, {"Authorization": f"bearer {KEY}"}]
)
def test_either_header_carries_the_key(client: Client, headers: dict[str, str]) -> None:
    assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"support": [{"item_id": "7", "value": NaN}]}', "/support/0/value"),
        ('{"support": [{"item_id": "7", "value": 1e400}]}', "/support/0/value"),
        ('{"support": [{"item_id": "7", "value": -Infinity}]}', "/support/0/value"),
        ('{"support": [{"item_id": "7", "value": 1e13}]}', "/support/0/value"),
        ('{"user_fields": {"age": -1e13}}', "/user_fields"),
        ('{"support": [{"item_id": "7", "value": true}]}', "/support/0/value"),
        ('{"support": [{"item_id": "7", "value": "5"}]}', "/support/0/value"),
        ('{"support": [{"item_id": 7}]}', "/support/0/item_id"),
        ('{"support": [{"item_id": ""}]}', "/support/0/item_id"),
        (json.dumps({"support": [{"item_id": "x" * 257}]}), "/support/0/item_id"),
        ('{"support": [{"value": 1}]}', "/support/0/item_id"),
        ('{"support": [{"item_id": "7", "timestamp": "yesterday"}]}', "/support/0/timestamp"),
        ('{"support": [{"item_id": "7", "timestamp": "2026-01-01"}]}', "/support/0/timestamp"),
        ('{"support": [{"item_id": "7", "context": {"secret": NaN}}]}', "/support/0/context"),
        ('{"support": [{"item_id": "7", "labels": {"dwell": NaN}}]}', "/support/0/labels"),
        ('{"support": [{"item_id": "7", "labels": {"dwell": "9"}}]}', "/support/0/labels"),
        ('{"support": [{"item_id": "7", "labels": {"dwell": null}}]}', "/support/0/labels"),
        ('{"support": [{"item_id": "7", "labels": [9]}]}', "/support/0/labels"),
        ('{"items": [{"id": "7", "labels": {"dwell": 9}}]}', "/items/0/labels"),
        (json.dumps({"support": [{"item_id": "7"}] * 201}), "/support"),
        (json.dumps({"items": [{"id": str(i)} for i in range(501)]}), "/items"),
        ('{"items": []}', "/items"),
        ('{"items": [{"id": "7"}, {"id": "7"}]}', ""),
        (json.dumps({"support": [{"item_id": "7"}, {"item_id": "8", "timestamp": DAWN}]}), ""),
        ('{"k": 0}', "/k"),
        ('{"k": 1001}', "/k"),
        ('{"k": 2.5}', "/k"),
        ('{"user_fields": {"secret": {"a": 1}}}', "/user_fields"),
        (json.dumps({"user_fields": {str(i): 1 for i in range(65)}}), "/user_fields"),
        ('{"on_unknown": "secret"}', "/on_unknown"),
        ('{"request_id": "secret secret"}', "/request_id"),
        ('{"secret": 1}', ""),
        ('{"support": [{"item_id": "7", "secret": 1}]}', "/support/0"),
        ("[]", ""),
        ("null", ""),
        ("7", ""),
    ],
)
def test_a_body_that_breaks_a_rule_is_a_422_that_points_at_the_place(
    client: Client, body: str, pointer: str
) -> None:
    response = raw(client, body)
    errors = problem(response, 422, "invalid-request")["errors"]
    assert isinstance(errors, list)
    assert errors[0]["pointer"] == pointer
    assert "secret" not in response.text
    assert "xxx" not in response.text


def test_an_unknown_key_is_answered_with_the_known_ones(client: Client) -> None:
    detail = problem(raw(client, '{"supprot": []}'), 422, "invalid-request")["detail"]
    assert detail == (
        "body: has an unknown key, the keys are request_id, support, items, k, user_fields, "
        "context, exclude_seen, on_unknown"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"k": 1}}',
        b'{"support": [{"item_id": "\\ud800"}]}',
        b'{"support": [{"item_id": "\xff"}]}',
        b"[" * 100_000,
        b'{"user_fields": ' + b'{"a":' * 10_000,
        b'\xef\xbb\xbf{"k": 1}',
        b"\x00",
    ],
)
def test_a_body_that_is_no_json_is_a_400(client: Client, body: bytes) -> None:
    problem(raw(client, body), 400, "malformed-json")


def test_nul_and_odd_characters_in_an_id_make_an_unknown_item(client: Client) -> None:
    problem(raw(client, b'{"support": [{"item_id": "\\u0000\\u202e"}]}'), 422, "invalid-request")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"k": 3, "k": 1}', "/k"),
        ('{"k": 3, "k": 3}', "/k"),
        (
            '{"support": [{"item_id": "7"}, {"item_id": "8", "value": 1, "value": 2}]}',
            "/support/1/value",
        ),
        ('{"items": [{"id": "7", "id": "8"}]}', "/items/0/id"),
        ('{"support": [], "support": [{"item_id": "7"}]}', "/support"),
        ('{"context": {"secret": 1, "secret": 2}}', "/context"),
        ('{"support": [{"item_id": "7", "value": 1, "v\\u0061lue": 2}]}', "/support/0/value"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_place(
    client: Client, body: str, pointer: str
) -> None:
    response = raw(client, body)
    content = problem(response, 422, "invalid-request")
    assert content["errors"] == [{"pointer": pointer, "detail": "is there twice"}]
    assert "secret" not in response.text


@pytest.mark.parametrize(
    "headers",
    [
        BEARER,
        BEARER | {"Content-Type": "text/plain"},
        BEARER | {"Content-Type": "application/json; charset=utf-16"},
        BEARER | {"Content-Type": "application/x-www-form-urlencoded"},
        JSON | {"Content-Encoding": "gzip"},
    ],
)
def test_a_body_that_does_not_say_it_is_plain_json_is_a_415(
    client: Client, headers: dict[str, str]
) -> None:
    problem(raw(client, b'{"k": 1}', headers), 415, "unsupported-media-type")


def test_utf_8_may_be_named(client: Client) -> None:
    headers = BEARER | {"Content-Type": 'Application/JSON; charset="UTF-8"'}
    assert raw(client, b'{"k": 1}', headers).status_code == 200


def test_a_body_may_be_as_long_as_the_limit_and_no_longer(client: Client) -> None:
    padding = b" " * (MAX_BODY_BYTES - len(b'{"k": 1}'))
    assert raw(client, b'{"k": 1}' + padding).status_code == 200
    problem(raw(client, b'{"k": 1}' + padding + b" "), 413, "payload-too-large")
    problem(raw(client, b" " * 2_000_000), 413, "payload-too-large")


def test_the_limit_holds_for_a_body_of_unknown_length(client: Client) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(400):
            yield b"x" * 65536

    response = client.post(RANK, content=chunks(), headers=JSON)
    problem(response, 413, "payload-too-large")


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("POST", "/v1/models/other/rank", 404, "model-not-found"),
        ("GET", "/v1/models/other", 404, "model-not-found"),
        ("GET", "/v2/models/other/ready", 404, "model-not-found"),
        ("GET", "/v1/nothing", 404, "not-found"),
        ("GET", "/docs", 404, "not-found"),
        ("GET", RANK, 405, "method-not-allowed"),
        ("DELETE", "/v1/models", 405, "method-not-allowed"),
    ],
)
def test_a_wrong_address_is_a_problem_too(
    client: Client, method: str, path: str, status: int, slug: str
) -> None:
    problem(client.request(method, path, headers=JSON, content=b"{}"), status, slug)


def test_a_refusal_of_the_model_is_a_422_with_its_rule_but_not_the_value(client: Client) -> None:
    content = problem(ask(client, user_fields={"age": "secret"}), 422, "invalid-request")
    assert content["detail"] == "age must be a number"


def test_a_field_that_the_model_does_not_know_is_named_with_its_place(client: Client) -> None:
    support = [{"item_id": "7"}, {"item_id": "8", "context": {"page": "a"}}]
    fields = {"age": 3, "he/ight": 3, "sex": "f"}
    response = ask(client, support=support, user_fields=fields, context={"day": 1})
    content = problem(response, 422, "invalid-request")
    assert content["detail"] == "/user_fields/he~1ight: is not a field, the fields are age"
    errors = content["errors"]
    assert isinstance(errors, list)
    assert [error["pointer"] for error in errors] == [
        "/user_fields/he~1ight",
        "/user_fields/sex",
        "/context/day",
        "/support/1/context/page",
    ]


LIKES = LabelRules(feedback="implicit", labelled=True, label_min=4.0)


def test_an_event_that_training_would_have_filtered_is_not_adapted_on(
    client: Client, ranker: FakeRanker
) -> None:
    ranker.rules = LIKES
    support = [{"item_id": "7", "value": 3.5}, {"item_id": "8", "value": 4}, {"item_id": "9"}]
    answer = ask(client, support=support).json()
    assert [(event.item, event.label) for event in ranker.asked] == [("8", 1.0), ("9", 1.0)]
    assert answer["adaptation"]["support_dropped"] == 1
    assert answer["warnings"] == [
        "support events left out because their label is below label_min 4.0: 1",
        "support events without a value, which count as 1 and not by label_min: 1",
    ]


def test_an_item_of_a_filtered_event_was_seen_all_the_same(
    client: Client, ranker: FakeRanker
) -> None:
    ranker.rules = LIKES
    support = [{"item_id": "7", "value": 1.0}]
    assert ids(ask(client, support=support)) == ["8", "9", "new"]
    assert ids(ask(client, support=support, k=1)) == ["8"]
    assert ids(ask(client, support=support, items=[{"id": "7"}])) == []
    assert ids(ask(client, support=support, exclude_seen=False, k=1)) == ["7"]


def test_kinds_of_events_have_the_labels_of_training(client: Client, ranker: FakeRanker) -> None:
    ranker.rules = LabelRules(
        feedback="explicit", labelled=True, event_weights={"view": 1.0, "buy": 5.0}
    )
    support = [
        {"item_id": "7", "event": "buy"},
        {"item_id": "8", "event": "secret"},
        {"item_id": "9", "value": 2},
    ]
    response = ask(client, support=support)
    assert [(event.item, event.label) for event in ranker.asked] == [("7", 5.0), ("9", 2.0)]
    assert response.json()["warnings"] == [
        "support events left out because their kind was not learned from: 1",
        "support events that do not say their kind, of which the value is the label: 1",
    ]
    assert "secret" not in response.text


def test_a_label_that_nothing_could_be_learned_from_is_refused_with_its_place(
    client: Client, ranker: FakeRanker
) -> None:
    ranker.rules = LabelRules(feedback="binary", labelled=True)
    support = [{"item_id": "7", "value": 1}, {"item_id": "8", "value": 0.5}]
    content = problem(ask(client, support=support), 422, "invalid-request")
    assert content["errors"] == [{"pointer": "/support/1/value", "detail": "must be 0 or 1"}]
    ask(client, support=[{"item_id": "7"}, {"item_id": "8", "value": 0}])
    assert [event.label for event in ranker.asked] == [1.0, 0.0]


@pytest.mark.parametrize(
    "timestamp",
    ["2026-11-20T23:59:00Z", "2026-11-20t23:59:00.25z", "2026-11-20 23:59:00-05:30"],
)
def test_a_timestamp_is_rfc_3339(client: Client, timestamp: str) -> None:
    assert ask(client, support=[{"item_id": "7", "timestamp": timestamp}]).status_code == 200


@pytest.mark.parametrize(
    "timestamp",
    [
        "1700000000",
        1700000000,
        "2026-11-20",
        "2026-11-20T23:59:00",
        "2026-11-20T23:59Z",
        "2026-11-20T23:59:00+0100",
        "2026-11-20_23:59:00Z",
        "2026-13-20T23:59:00Z",
        True,
    ],
)
def test_another_timestamp_is_refused_with_its_place(client: Client, timestamp: object) -> None:
    content = problem(
        ask(client, support=[{"item_id": "7", "timestamp": timestamp}]), 422, "invalid-request"
    )
    errors = content["errors"]
    assert isinstance(errors, list)
    assert errors[0]["pointer"] == "/support/0/timestamp"


def test_a_crash_is_a_500_that_tells_nothing(client: Client) -> None:
    response = ask(client, user_fields={"age": 500})
    problem(response, 500, "internal")
    assert "secret" not in response.text


def test_the_openapi_document_has_no_loose_ends(client: Client) -> None:
    document = client.get("/openapi.json").json()
    references = set(json.dumps(document).split('"$ref": "#/components/schemas/')[1:])
    names = {reference.partition('"')[0] for reference in references}
    assert "RankRequest" in names
    assert names <= set(document["components"]["schemas"])


def test_every_endpoint_is_a_coroutine() -> None:
    app = build_app({"films": FakeRanker()}, keys=Keyring.of(KEY))
    routers = [getattr(route, "original_router", None) for route in app.routes]
    routes = [route for router in routers if router for route in router.routes]
    assert len(routes) == 3 * 2 + 3
    assert all(inspect.iscoroutinefunction(route.endpoint) for route in routes)
