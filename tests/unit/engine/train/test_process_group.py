"""By which interface workers are reached; addresses are given by hand."""

import pytest

from metarec_ray.engine.train.process_group import interface_of, interfaces, name_interface

DEBIAN = {
    "lo": ["127.0.0.1", "::1", "00:00:00:00:00:00"],
    "docker0": ["172.17.0.1"],
    "eth0": ["10.88.0.12", "fe80::2%eth0", "2001:db8::12"],
    "eth1": ["10.88.0.1", "fe80::3%eth1"],
}


@pytest.mark.parametrize(
    ("address", "interface"),
    [
        ("10.88.0.12", "eth0"),
        ("10.88.0.1", "eth1"),  # which the one before begins with
        ("127.0.0.1", "lo"),
        ("2001:db8::12", "eth0"),
        ("fe80::3", "eth1"),
        ("fe80::3%eth1", "eth1"),
    ],
)
def test_an_address_has_its_interface(address: str, interface: str) -> None:
    assert interface_of(address, DEBIAN) == interface


def test_an_address_behind_a_translation_has_none() -> None:
    assert interface_of("203.0.113.7", DEBIAN) is None
    assert interface_of("127.0.1.1", DEBIAN) is None  # what Debian's host name means


def test_this_machine_has_loopback() -> None:
    assert interface_of("127.0.0.1", interfaces()) is not None


@pytest.mark.parametrize(
    ("backend", "environ"),
    [
        ("gloo", {"GLOO_SOCKET_IFNAME": "eth0"}),
        ("nccl", {"NCCL_SOCKET_IFNAME": "=eth0"}),  # not eth01, too
    ],
)
def test_a_backend_is_told_the_interface(backend: str, environ: dict[str, str]) -> None:
    told: dict[str, str] = {}
    name_interface(told, backend, "eth0")
    assert told == environ


def test_the_users_choice_stays_and_no_interface_names_none() -> None:
    told = {"GLOO_SOCKET_IFNAME": "ib0"}
    name_interface(told, "gloo", "eth0")
    name_interface(told, "nccl", None)
    assert told == {"GLOO_SOCKET_IFNAME": "ib0"}
