"""MLflow's own client, behind what we ask of it (`mlflow_sink.Client`); nothing else imports it.

Knows its settings: no retries of its own, no telemetry, no log lines. Does not know what is told.
"""

import logging
import os
import textwrap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

from metarec_ray.engine.tracking.mlflow_sink import FOLDER, KEY, Found, Metric
from metarec_ray.engine.tracking.tracked import Status, Undelivered, unsecret
from metarec_ray.errors import MachineError

T = TypeVar("T")
EXPERIMENT, DEFAULT_EXPERIMENT = "MLFLOW_EXPERIMENT_NAME", "metarec_ray"
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # of who names a folder
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # `delivery` tries again
}
"""Variables of MLflow where they are not set; without the first two it tells its makers of use."""
_TELEMETRY = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
_REFUSED, _CAUSE = "too many 500 error responses", "(Caused by "
"""Of what the client says of a server."""
_LONGEST = 200  # characters of a foreign message
_STATUS: dict[str, Status] = {
    "RUNNING": "running",
    "SCHEDULED": "running",
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "killed",
}
_NAMES = {status: name for name, status in _STATUS.items() if name != "SCHEDULED"}


def require_installed(uri: str | None, key: str) -> None:
    """Raise a MachineError if tracking at a URI, that of `key`, needs what is not installed."""
    if uri is None:
        return
    needed = {"mlflow": "mlflow-skinny"}
    if uri.startswith("sqlite:"):
        needed |= {"sqlalchemy": "sqlalchemy", "alembic": "alembic"}
    missing = [package for module, package in needed.items() if find_spec(module) is None]
    if missing:
        raise MachineError(
            f"{key} {uri} needs {' and '.join(missing)}, not installed here: "
            "pip install 'metarec_ray[mlflow]'"
        )


class MlflowClient:
    """The client of one tracking URI; every call is done, or raises Undelivered."""

    def __init__(self, uri: str, *, environ: MutableMapping[str, str] = os.environ):
        """Connect; the experiment is made if there is none of its name."""
        for name, value in SETTINGS.items():
            environ.setdefault(name, value)
        environ.update(dict.fromkeys(_TELEMETRY, "true"))
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._of: Any = _ask(lambda: import_module("mlflow.entities"))
        tracking: Any = _ask(lambda: import_module("mlflow.tracking"))
        # The registry's store is opened, too, from where it is not told.
        self._client: Any = _ask(lambda: tracking.MlflowClient(uri, registry_uri=uri))
        self.experiment = self._experiment(environ.get(EXPERIMENT) or DEFAULT_EXPERIMENT)

    def find(self, folder: str) -> list[Found]:
        """Return the runs of a folder, the oldest first."""
        found, page = list[Any](), None
        while page is None or page:
            some = _ask(partial(self._page, f"tags.`{FOLDER}` = '{folder}'", page))
            found += some
            page = some.token or ""
        return [
            Found(run.info.run_id, run.data.tags.get(KEY, ""), _STATUS[run.info.status])
            for run in found
        ]

    def _page(self, asked: str, page: str | None) -> Any:
        order = ["attributes.start_time ASC"]
        return self._client.search_runs(
            [self.experiment], asked, max_results=1000, order_by=order, page_token=page
        )

    def create(self, name: str, tags: Mapping[str, str]) -> str:
        """Begin a run."""
        create = self._client.create_run
        run = _once(lambda: create(self.experiment, run_name=name, tags=dict(tags)))
        return run.info.run_id

    def delete(self, run: str) -> None:
        """Delete a run."""
        _once(lambda: self._client.delete_run(run))

    def params(self, run: str) -> set[str]:
        """Return the names of a run's parameters."""
        return set(_ask(lambda: self._client.get_run(run)).data.params)

    def steps(self, run: str, metric: str) -> set[int]:
        """Return the steps of a run's metric."""
        return {one.step for one in _ask(lambda: self._client.get_metric_history(run, metric))}

    def log(
        self,
        run: str,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add to a run."""
        told = {
            "metrics": [self._of.Metric(name, x, int(1000 * s), at) for name, x, at, s in metrics],
            "params": [self._of.Param(key, value) for key, value in (params or {}).items()],
            "tags": [self._of.RunTag(key, value) for key, value in (tags or {}).items()],
        }
        call = _once if metrics else _ask
        call(lambda: self._client.log_batch(run, **told, synchronous=True))

    def set_status(self, run: str, status: Status) -> None:
        """Say that a run runs, or how it ended."""
        if status == "running":
            _ask(lambda: self._client.update_run(run, status=_NAMES[status]))
        else:
            _ask(lambda: self._client.set_terminated(run, status=_NAMES[status]))

    def _experiment(self, name: str) -> str:
        found = _ask(lambda: self._client.get_experiment_by_name(name))
        if found is not None:
            return found.experiment_id
        return _ask(lambda: self._client.create_experiment(name))


def _ask(call: Callable[[], T]) -> T:
    """Return what a call does that may be made twice: after a refusal it is, at once."""
    try:
        return _once(call)
    except Undelivered as error:
        if not error.refused:
            raise
        return _once(call)


def _once(call: Callable[[], T]) -> T:
    """Return what a call does; turn what goes wrong into Undelivered.

    Any exception, because it comes from others' code and a training must not end by it.
    """
    try:
        return call()
    except Exception as error:
        text = unsecret(f"{type(error).__name__}: {error}")
        refused = _REFUSED in text or _answered(error)
        text = text.partition(_CAUSE)[2] or text
        raise Undelivered(textwrap.shorten(text, _LONGEST), refused=refused) from error


def _answered(error: Exception) -> bool:
    """Return whether an error is what a server said itself, not what is said for it."""
    answer = getattr(error, "json", None)  # of a RestException
    code = answer.get("error_code") if isinstance(answer, dict) else None
    return code is not None and code != "TEMPORARILY_UNAVAILABLE"
