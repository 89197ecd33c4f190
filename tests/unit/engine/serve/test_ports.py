"""Ports that an endpoint cannot have."""

import os
import socket

import pytest

from metarec_ray.engine.cluster.ports import Port, free
from metarec_ray.engine.serve.ports import holder, require_free
from metarec_ray.errors import MachineError


def test_a_busy_port_is_named_with_its_process_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = rf"127\.0\.0\.1:{port} is held by .* \({os.getpid()}\): end that, or choose another"
        with pytest.raises(MachineError, match=said):
            require_free("127.0.0.1", port)
    require_free("127.0.0.1", port)


def test_a_host_of_another_machine_is_named() -> None:
    with pytest.raises(MachineError, match=r"of this machine, got 192\.0\.2\.1:8000 \(serve.host"):
        require_free("192.0.2.1", 8000)


def test_a_process_that_the_system_hides_is_somebodys() -> None:
    found = [Port("0.0.0.0", 80, "?"), Port("::", 80, "nginx (7)"), Port("::", 81, "x (8)")]
    assert holder(80, found) == "nginx (7)"
    assert holder(80, found[:1]) == "a process of another user"


def test_free_ports_differ_and_are_free() -> None:
    ports = free(5)
    assert len(set(ports)) == 5
    for port in ports:
        require_free("127.0.0.1", port)
