"""MLflow as a few lines play it: it keeps what it is told, and fails when it is asked to."""

from collections.abc import Mapping, Sequence

from metarec_ray.engine.tracking.mlflow_sink import FOLDER, KEY, Found, Metric
from metarec_ray.engine.tracking.tracked import Point, Status, Tracked, Undelivered


class Kept:
    """What MLflow keeps of a run."""

    def __init__(self, name: str, tags: Mapping[str, str]):
        self.name, self.tags = name, dict(tags)
        self.params: dict[str, str] = {}
        self.metrics: list[Metric] = []
        self.status: Status = "running"

    def steps(self, metric: str) -> list[int]:
        return [step for name, _, step, _ in self.metrics if name == metric]


class Played:
    """Every call whose number is in `fails` is refused; in `lost`, done and then refused."""

    def __init__(self) -> None:
        self.runs: dict[str, Kept] = {}
        self.calls: list[str] = []
        self.fails: set[int] = set()
        self.lost: set[int] = set()

    def _done(self, call: str) -> None:
        self.calls.append(call)
        if len(self.calls) in self.lost:
            raise Undelivered("no answer")

    def _begin(self) -> None:
        if len(self.calls) + 1 in self.fails:
            self.calls.append("refused")
            raise Undelivered("500", refused=True)

    def find(self, folder: str) -> list[Found]:
        self._begin()
        self._done("find")
        return [
            Found(id, run.tags[KEY], run.status)
            for id, run in self.runs.items()
            if run.tags[FOLDER] == folder
        ]

    def create(self, name: str, tags: Mapping[str, str]) -> str:
        self._begin()
        id = f"run-{len(self.runs)}"
        self.runs[id] = Kept(name, tags)
        self._done("create")
        return id

    def delete(self, run: str) -> None:
        self._begin()
        del self.runs[run]
        self._done("delete")

    def params(self, run: str) -> set[str]:
        self._begin()
        self._done("params")
        return set(self.runs[run].params)

    def steps(self, run: str, metric: str) -> set[int]:
        self._begin()
        self._done("steps")
        return set(self.runs[run].steps(metric))

    def log(
        self,
        run: str,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._begin()
        kept = self.runs[run]
        kept.metrics += metrics
        assert not set(params or {}) & set(kept.params), "MLflow refuses to change a parameter"
        kept.params |= params or {}
        kept.tags |= tags or {}
        self._done("log")

    def set_status(self, run: str, status: Status) -> None:
        self._begin()
        self.runs[run].status = status
        self._done("set_status")


def run(steps: int, status: Status = "running", key: str = "") -> Tracked:
    """Return a run with a line each five steps."""
    points = [
        Point(step, {"outer_lr": 0.1, "query_loss": 1 / step}, 100.0 + step)
        for step in range(5, steps + 1, 5)
    ]
    return Tracked(key, key or "a-run", {"train.steps": "20"}, {"command": "x"}, points, status)
