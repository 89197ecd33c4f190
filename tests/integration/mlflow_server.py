"""A server of MLflow's REST API, as far as it is asked: it keeps runs, fails, and takes its time.

Of the package mlflow-skinny there is a client alone.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Tree = dict[str, Any]
API = "/api/2.0/mlflow/"


class Server:
    """What a server keeps, and how it misbehaves.

    Attributes:
        every: each so-manieth request is answered with 500; 0 for none.
        delay_s: before each answer.
        lost: numbers of requests that are done and answered with 503 nevertheless.
        runs: id -> a run with its params, tags, and metrics as a list.

    """

    def __init__(self) -> None:
        self.every, self.delay_s, self.lost = 0, 0.0, range(0)
        self.requests: list[str] = []
        self.runs: dict[str, Tree] = {}
        self.experiments: dict[str, str] = {}
        self.lock = threading.Lock()

    def answer(self, path: str, asked: Tree) -> tuple[int, Tree]:
        with self.lock:
            self.requests.append(path)
            number = len(self.requests)
        time.sleep(self.delay_s)
        if self.every and number % self.every == 0:
            return 500, {"error_code": "INTERNAL_ERROR", "message": "out of order"}
        with self.lock:
            found = getattr(self, path.replace("/", "_").replace("-", "_"))(asked)
            if number in self.lost:
                return 503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "lost"}
        return found

    def experiments_get_by_name(self, asked: Tree) -> tuple[int, Tree]:
        id = self.experiments.get(asked["experiment_name"])
        if id is None:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}
        return 200, {"experiment": {"experiment_id": id, "name": asked["experiment_name"]}}

    def experiments_create(self, asked: Tree) -> tuple[int, Tree]:
        id = self.experiments.setdefault(asked["name"], str(len(self.experiments) + 1))
        return 200, {"experiment_id": id}

    def runs_create(self, asked: Tree) -> tuple[int, Tree]:
        id = f"run{len(self.runs)}"
        tags = {tag["key"]: tag["value"] for tag in asked["tags"]}
        self.runs[id] = {"tags": tags, "params": {}, "metrics": [], "status": "RUNNING"}
        self.runs[id] |= {"experiment": asked["experiment_id"], "start": asked["start_time"]}
        return 200, {"run": self._run(id)}

    def runs_get(self, asked: Tree) -> tuple[int, Tree]:
        return 200, {"run": self._run(asked["run_id"])}

    def runs_search(self, asked: Tree) -> tuple[int, Tree]:
        mark = asked["filter"].split("'")[1]
        found = [id for id, run in self.runs.items() if run["tags"]["metarec.folder"] == mark]
        return 200, {"runs": [self._run(id) for id in found]}

    def runs_delete(self, asked: Tree) -> tuple[int, Tree]:
        del self.runs[asked["run_id"]]
        return 200, {}

    def runs_update(self, asked: Tree) -> tuple[int, Tree]:
        if asked.get("status"):
            self.runs[asked["run_id"]]["status"] = asked["status"]
        return 200, {"run_info": self._run(asked["run_id"])["info"]}

    def runs_log_batch(self, asked: Tree) -> tuple[int, Tree]:
        run = self.runs[asked["run_id"]]
        for param in asked.get("params", []):
            if run["params"].get(param["key"], param["value"]) != param["value"]:
                return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "changed"}
            run["params"][param["key"]] = param["value"]
        run["tags"] |= {tag["key"]: tag["value"] for tag in asked.get("tags", [])}
        run["metrics"] += asked.get("metrics", [])
        return 200, {}

    def metrics_get_history(self, asked: Tree) -> tuple[int, Tree]:
        metrics = self.runs[asked["run_id"]]["metrics"]
        return 200, {"metrics": [one for one in metrics if one["key"] == asked["metric_key"]]}

    def steps(self, id: str, metric: str) -> list[int]:
        """Return the steps at which a run has a value, in the order in which they came."""
        metrics = self.runs[id]["metrics"]
        return [int(one.get("step", 0)) for one in metrics if one["key"] == metric]

    def _run(self, id: str) -> Tree:
        run = self.runs[id]
        info = {"run_id": id, "run_uuid": id, "experiment_id": run["experiment"]}
        info |= {"status": run["status"], "start_time": run["start"], "lifecycle_stage": "active"}
        data = {
            name: [{"key": key, "value": value} for key, value in run[name].items()]
            for name in ("params", "tags")
        }
        return {"info": info, "data": data | {"metrics": []}}


@contextmanager
def serving(server: Server, port: int = 0) -> Iterator[str]:
    """Serve on this machine for a `with` block; give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            split = urlsplit(self.path)
            self._answer(split.path, {k: v[0] for k, v in parse_qs(split.query).items()})

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self._answer(self.path, json.loads(self.rfile.read(length)))

        def _answer(self, path: str, asked: Tree) -> None:
            status, found = server.answer(path.removeprefix(API), asked)
            content = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing of a request."""

    running = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
