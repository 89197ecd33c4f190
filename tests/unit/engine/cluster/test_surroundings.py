"""Addresses as users write them, and variables and files that would break Ray."""

import socket
from pathlib import Path

import pytest

from metarec_ray.engine.cluster.ports import free
from metarec_ray.engine.cluster.surroundings import (
    NEEDED,
    cluster_address,
    prepare,
    require_answer,
    temporary_folder,
)
from metarec_ray.errors import MachineError


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a short relative name."""
    (tmp_path / "t").mkdir()
    monkeypatch.chdir(tmp_path)
    return Path("t")


def test_a_long_temporary_folder_gives_way_to_one_where_sockets_fit(
    tmp_path: Path, short: Path
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    environ = {"TMPDIR": str(deep)}
    prepare(environ, tmp_path)
    assert environ == {"TMPDIR": str(deep), "RAY_TMPDIR": "/tmp"}
    assert temporary_folder({"TMPDIR": str(short)}, 37) == short
    assert temporary_folder({"TMPDIR": "/nowhere"}, 37) == Path("/tmp")
    assert temporary_folder({}, 37) == Path("/tmp")


def test_a_folder_that_the_user_chose_for_ray_is_theirs_or_refused(tmp_path: Path) -> None:
    environ = {"RAY_TMPDIR": "/var/tmp", "TMPDIR": "/tmp"}
    prepare(environ, tmp_path)
    assert environ["RAY_TMPDIR"] == "/var/tmp"
    with pytest.raises(MachineError, match=r"RAY_TMPDIR must have at most 37 bytes.*/x: unset it"):
        prepare({"RAY_TMPDIR": "/x" * 40}, tmp_path)


@pytest.mark.parametrize("module", ["torch.py", "ray/__init__.py"])
def test_a_module_that_workers_would_take_for_a_package_is_named(
    tmp_path: Path, module: str
) -> None:
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).touch()
    with pytest.raises(MachineError, match=f"rename {tmp_path / module}, or work in another"):
        prepare({}, tmp_path)


def test_data_in_a_folder_named_like_a_package_is_no_module(tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "torch.csv").touch()
    prepare({}, tmp_path)
    assert "metarec_ray" not in NEEDED


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
