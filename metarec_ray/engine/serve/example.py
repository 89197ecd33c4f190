"""The answers of a live endpoint to one new user, before and after each click.

Knows how to start an endpoint in a new process (Ray Serve reads its environment once), ask it and
end it; does not know the model.
"""

import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from metarec_ray.config.experiment import Experiment
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster import ports, with_parent
from metarec_ray.errors import RunFailed
from metarec_ray.evaluation.protocols.strict import strict_tasks
from metarec_ray.service.client import Endpoint
from metarec_ray.service.requests import RankRequest, RankResponse, SupportItem

CLICKS, SHOWN = 3, 10
START_TIMEOUT_S, STOP_TIMEOUT_S = 120.0, 60.0
TITLE_WIDTH = 34


class Item(NamedTuple):
    """What people recognise an item by."""

    id: str
    title: str | None


class Step(NamedTuple):
    """An answer: the last click (None at first), the ranking, and how long it took."""

    clicked: Item | None
    answer: RankResponse


class Example(NamedTuple):
    """A user held out of training.

    Attributes:
        user: raw id.
        fields: side information in the request.
        steps: the answers before the first click and after each.
        liked_later: what the user chose after these clicks.

    """

    user: str
    fields: dict[str, str]
    steps: list[Step]
    liked_later: list[Item]

    def as_json(self) -> dict[str, Any]:
        """Return it as `summary.json` holds it."""
        return {
            "user": self.user,
            "fields": self.fields,
            "steps": [
                {
                    "clicked": step.clicked and step.clicked._asdict(),
                    "items": [
                        {"id": item.id, "title": item.title, "score": item.score}
                        for item in step.answer.items
                    ],
                    "took_ms": step.answer.took_ms,
                }
                for step in self.steps
            ],
            "liked_later": [item._asdict() for item in self.liked_later],
        }

    def text(self) -> str:
        """Return the first and the last answer side by side; `*` marks later choices."""
        first, last = self.steps[0].answer, self.steps[-1].answer
        later = {item.id for item in self.liked_later}
        clicked = [step.clicked.title or step.clicked.id for step in self.steps if step.clicked]
        lines = [f"user {self.user} clicked: {'; '.join(clicked)}"]
        head = f"{'before any click':<{TITLE_WIDTH + 6}}after {len(clicked)} clicks"
        rows = [
            f"{_place(a, later):<{TITLE_WIDTH + 6}}{_place(b, later)}"
            for a, b in list(zip(first.items, last.items, strict=False))[:5]
        ]
        took = " / ".join(f"{step.answer.took_ms:.1f}" for step in self.steps)
        foot = f"* the user really chose it later; answers took {took} ms in the server"
        return "\n".join([*lines, head, *rows, foot])


def ask_example(
    checkpoint: Path, experiment: Experiment, store: TaskStore, *, progress: Callable[[str], None]
) -> Example:
    """Serve the checkpoint, ask for one test user before and after each of its first clicks."""
    tasks = strict_tasks(store, experiment.evaluate)
    entity = int(tasks.entity[0])
    catalogue = [Item(*pair) for pair in zip(store.items.ids, store.items.titles, strict=True)]
    clicks = [catalogue[row] for row in tasks.support[0, :CLICKS].tolist()]
    fields: dict[str, str] = store.user_fields(entity)
    steps = []
    key = secrets.token_urlsafe(24)
    with _endpoint(checkpoint, key, progress) as url:
        endpoint = Endpoint(url, key, 10.0)
        for count in range(len(clicks) + 1):
            support = [SupportItem(item_id=item.id) for item in clicks[:count]]
            request = RankRequest(support=support, k=SHOWN, user_fields=dict(fields))
            answer = endpoint.ask(f"{url}/rank", RankResponse, request)
            steps.append(Step(clicks[count - 1] if count else None, answer))
    later = [*tasks.support[0, CLICKS:].tolist(), *tasks.query[0].tolist()]
    return Example(store.entity_ids()[entity], fields, steps, [catalogue[row] for row in later])


@contextmanager
def _endpoint(checkpoint: Path, key: str, progress: Callable[[str], None]) -> Iterator[str]:
    """Run `metarec serve` on a free port; yield the model's address; end it and its children."""
    (port,) = ports.free(1)
    verb = [sys.executable, "-m", "metarec_ray", "serve", str(checkpoint), "--port", str(port)]
    command = with_parent.command(signal.SIGTERM, verb)  # also if this process is killed
    environ = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS",)}
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ | {"METAREC_API_KEY": key},
        start_new_session=True,  # Ctrl-C in the terminal reaches only us; we end the endpoint
    )
    told: list[str] = []
    reader = threading.Thread(target=_keep, args=(server.stderr, told), daemon=True)
    reader.start()
    try:
        yield _address(server, told)
    finally:
        progress("serve: stopping the endpoint")
        server.send_signal(signal.SIGINT)
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        reader.join(5)


def _address(server: subprocess.Popen[str], told: list[str]) -> str:
    """Return the line the server prints once it answers."""
    assert server.stdout is not None
    found: list[str] = []
    waiting = threading.Thread(target=lambda: found.append(server.stdout.readline()), daemon=True)  # type: ignore[union-attr]
    waiting.start()
    waiting.join(START_TIMEOUT_S)
    if not found or not found[0].startswith("http"):
        raise RunFailed(
            f"an endpoint must start within {START_TIMEOUT_S:g} s: {''.join(told[-3:])}"
        )
    return found[0].strip()


def _keep(stream: Any, told: list[str]) -> None:
    told.extend(stream)


def _place(item: Any, later: set[str]) -> str:
    title = item.title or item.id
    short = title if len(title) <= TITLE_WIDTH else title[: TITLE_WIDTH - 3] + "..."
    return f"{item.rank:2d} {'*' if item.id in later else ' '} {short}"
