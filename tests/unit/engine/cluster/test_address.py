"""Addresses as users write them, and ports that nobody or somebody listens on."""

import socket

import pytest

from metarec_ray.engine.cluster.address import cluster_address, require_answer
from metarec_ray.engine.cluster.ports import free
from metarec_ray.errors import MachineError


@pytest.mark.parametrize(
    ("asked", "found"), [({}, None), ("", None), (" ", None), ("local", None), ("auto", "auto")]
)
def test_words_for_this_machine(asked: str, found: str | None) -> None:
    environ = {"RAY_ADDRESS": asked} if isinstance(asked, str) else {}
    assert cluster_address(environ) == found


@pytest.mark.parametrize(
    ("asked", "remedy"),
    [
        ("http://head:8265", "unset it, and use metarec submit --address"),
        ("ray://head:10001", "unset it, and use metarec submit --address"),
        ("head", "the port of Ray's head is 6379"),
        ("head:", "the port of Ray's head is 6379"),
        ("head:x", "the port of Ray's head is 6379"),
        ("head:70000", "the port of Ray's head is 6379"),
        (":6379", "the port of Ray's head is 6379"),
        ("head:6379/x", "the port of Ray's head is 6379"),
    ],
)
def test_an_address_of_another_form_names_variable_value_and_remedy(
    asked: str, remedy: str
) -> None:
    with pytest.raises(MachineError, match="RAY_ADDRESS must be HOST:PORT") as refused:
        cluster_address({"RAY_ADDRESS": asked})
    assert f"got {asked}: {remedy}" in str(refused.value)


def test_an_address_where_somebody_listens_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert cluster_address({"RAY_ADDRESS": address}) == address
        require_answer(f"http://{address}", "--address")


def test_a_refused_connection_is_called_one() -> None:
    (port,) = free(1)
    said = rf"must answer .* Connection refused \(127\.0\.0\.1:{port}, RAY_ADDRESS\)"
    with pytest.raises(MachineError, match=said):
        cluster_address({"RAY_ADDRESS": f"127.0.0.1:{port}"})
    said = rf"must answer .* Connection refused \(http://127\.0\.0\.1:{port}/, --address\)"
    with pytest.raises(MachineError, match=said):
        require_answer(f"http://127.0.0.1:{port}/", "--address")
