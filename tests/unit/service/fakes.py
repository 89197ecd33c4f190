"""A ranker of four films that scores by catalogue position: what the application is tested on."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from metarec_ray.data.log.labels import LabelRules
from metarec_ray.errors import RequestError
from metarec_ray.inference.rankings import RankedItem, Ranking
from metarec_ray.inference.recommender import SupportEvent

TITLES = {"7": "Alien", "8": "Brazil", "9": "Casablanca", "new": None}
KEY = "correct-horse-battery"


class FakeRanker:
    """Scores item i of the catalogue 10 - i, plus the sum of the support's labels."""

    name = "films"
    version = "v3"

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {"algorithm": "fake", "metrics": {"ndcg@10": float("nan")}}
        self.asked: list[SupportEvent] = []
        self.rules = LabelRules(feedback="explicit", labelled=True)
        self.fields: Mapping[str, Sequence[str]] = {"user": ["age"], "context": ["device", "hour"]}

    def knows(self, item_id: str) -> bool:
        return item_id in TITLES

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
        if user_fields and isinstance(user_fields["age"], str):
            raise RequestError(f"age must be a number, got {user_fields['age']!r} (user)")
        if user_fields and user_fields["age"] == 500.0:
            raise ArithmeticError("secret detail")
        self.asked = list(support)
        seen = {event.item for event in support} if exclude_seen else set[str]()
        asked = list(TITLES) if candidates is None else candidates
        wanted = [item for item in asked if item not in seen]
        order = list(TITLES)
        gain = sum(event.label for event in support)
        known = [item for item in wanted if item in TITLES]
        known.sort(key=order.index)
        scores = {item: 10.0 - order.index(item) + gain for item in known}
        items = [RankedItem(i, TITLES[i], scores[i], i == "new", std=0.5) for i in known]
        items += [RankedItem(i, None, None, True) for i in wanted if i not in TITLES]
        return Ranking(items[:k], bool(support), len(support), [])


class Client:
    """Asks an ASGI application in this process, one event loop a request."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def request(self, method: str, path: str, **options: Any) -> Response:
        async def ask() -> Response:
            transport = ASGITransport(self.app, raise_app_exceptions=False)
            async with AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Response:
        return self.request("POST", path, **options)
