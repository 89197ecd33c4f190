from pathlib import Path

from metarec_ray.service.settings import choose_run_dir, serve_environment


def test_haproxy_finds_everything_of_its_own_in_one_folder() -> None:
    environment = serve_environment(
        haproxy=True, run_dir=Path("/tmp/r"), stats_port=1, metrics_port=2
    )
    places = {key: value for key, value in environment.items() if value.startswith("/")}
    assert len(places) == 6
    assert all(value.startswith("/tmp/r") for value in places.values())
    assert environment["RAY_SERVE_HAPROXY_STATS_PORT"] == "1"
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def test_without_haproxy_replicas_open_no_port() -> None:
    environment = serve_environment(haproxy=False, run_dir=Path("/tmp/r"))
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert environment["RAY_SERVE_ENABLE_DIRECT_INGRESS"] == "0"
    assert environment["RAY_AUTH_MODE"] == "token"


def test_the_sockets_of_the_run_folder_fit_the_limit_of_the_system() -> None:
    # Ray adds a node id of 56 hexadecimal digits, HAProxy `.PID.tmp` while it binds.
    socket = choose_run_dir() / ("0" * 56) / "metrics.4194304.tmp"
    assert len(str(socket)) <= 107


def test_two_endpoints_never_share_a_folder() -> None:
    assert choose_run_dir() != choose_run_dir()
