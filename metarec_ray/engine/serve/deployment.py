"""The model as a Ray Serve deployment: what a replica is, and how replicas are run.

Does not know when Serve is started or stopped.
"""

from pathlib import Path

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import BackpressureConfig, HTTPOptions, ProxyLocation
from ray.serve.schema import LoggingConfig

from metarec_ray.engine.serve.readiness import is_ready
from metarec_ray.errors import RunFailed
from metarec_ray.inference.recommender import Recommender
from metarec_ray.service.app import build_app
from metarec_ray.service.auth import Keyring
from metarec_ray.service.settings import QUEUES, REQUEST_TIMEOUT_S
from metarec_ray.storage.places import Located, located

# A driver, the controller, the proxy and the replicas must fit on two cores.
CPUS_PER_REPLICA = 0.2
QUIET = LoggingConfig(enable_access_log=False)


class Replica:
    """One copy of the model in one process; once it is loaded, Serve runs its application."""

    def __init__(self, checkpoint: Located, name: str, keys: Keyring) -> None:
        self.model = Recommender.load(checkpoint.here(), name=name)
        self.model.rank([])  # prepares the catalogue, or the first request would wait for it
        self.keys = keys

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_app({self.model.name: self.model}, keys=self.keys, ready=is_ready)


def start(host: str, port: int) -> None:
    """Start Serve's controller and its proxy on the head node.

    Raises:
        RunFailed: the proxy does not come up.

    """
    try:
        serve.start(
            proxy_location=ProxyLocation.HeadOnly,
            http_options=HTTPOptions(host=host, port=port, request_timeout_s=REQUEST_TIMEOUT_S),
            logging_config=QUIET,
        )
    except (RayError, TimeoutError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise RunFailed(f"the proxy must start, it does not: {reason}") from error


def deploy(checkpoint: Path, name: str, keys: Keyring, *, replicas: int, haproxy: bool) -> None:
    """Run the replicas and wait until each has loaded the model.

    Raises:
        RunFailed: a replica cannot load the model, or its share of a CPU is not free.

    """
    queue = QUEUES[haproxy]
    deployment = serve.deployment(
        name=name,
        num_replicas=replicas,
        ray_actor_options={"num_cpus": CPUS_PER_REPLICA},
        max_ongoing_requests=queue.ongoing,
        max_queued_requests=queue.waiting,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=1),
        max_surge_percent=100,
        max_constructor_retry_count=2,
        graceful_shutdown_timeout_s=REQUEST_TIMEOUT_S,
        logging_config=QUIET,
    )(serve.ingress()(Replica))
    try:
        serve.run(deployment.bind(located(checkpoint).to_read(), name, keys), name=name)
    except RuntimeError as error:
        raise RunFailed(f"every replica must load the model, one does not: {_why(name)}") from error


def _why(name: str) -> str:
    """Return the last line of Serve's message about a failed application."""
    application = serve.status().applications[name]
    messages = [each.message for each in application.deployments.values()] + [application.message]
    lines = [line.strip() for message in messages for line in message.splitlines()[-1:]]
    return next((line for line in lines if line), "Serve gives no reason")
