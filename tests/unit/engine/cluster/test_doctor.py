"""What the doctor says about states of a machine that the tests hand in."""

import json
import os
import socket
from pathlib import Path

import psutil
import pytest

from metarec_ray.cli.app import main
from metarec_ray.engine.cluster import access, doctor, leftovers, machine
from metarec_ray.engine.cluster.ports import Port, listening

GIB = 2**30


@pytest.mark.parametrize(
    ("available", "level"), [(8 * GIB, "ok"), (5 * GIB // 2, "warn"), (GIB, "bad")]
)
def test_memory_for_two_workers_is_asked_for(available: int, level: str) -> None:
    finding = machine.memory(available)
    assert finding.level == level
    assert bool(finding.mend) == (level != "ok")


def test_a_token_that_others_can_read_is_bad_and_mended_by_chmod(tmp_path: Path) -> None:
    path = access.token_file(tmp_path / "metarec")
    path.chmod(0o644)
    (finding,) = doctor.tokens({"METAREC_HOME": str(tmp_path / "metarec")}, tmp_path)
    assert (finding.level, finding.mend) == ("bad", f"chmod 600 {path}")


def test_rays_own_token_file_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0")
    (tmp_path / ".ray" / "auth_token").chmod(0o644)
    (finding,) = doctor.tokens({"METAREC_HOME": str(tmp_path)}, tmp_path)
    assert finding.level == "bad"
    assert ".ray/auth_token has mode 0644" in finding.found


def test_a_token_path_that_names_no_file_is_bad(tmp_path: Path) -> None:
    environ = {"METAREC_HOME": str(tmp_path), "RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    assert doctor.tokens(environ, tmp_path)[0].level == "bad"


def test_a_shell_or_a_folder_that_breaks_ray_is_bad(tmp_path: Path) -> None:
    assert doctor.shell({}, tmp_path).level == "ok"
    assert doctor.shell({"RAY_ADDRESS": "http://head:8265"}, tmp_path).level == "bad"
    (tmp_path / "torch.py").touch()
    assert "torch.py" in doctor.shell({}, tmp_path).found


@pytest.mark.parametrize(
    ("environ", "level"),
    [({}, "ok"), ({"RAY_AUTH_MODE": "TOKEN"}, "ok"), ({"RAY_AUTH_MODE": "disabled"}, "bad")],
)
def test_only_token_mode_is_fine(environ: dict[str, str], level: str) -> None:
    finding = doctor.mode(environ)
    assert finding.level == level


def test_a_data_folder_that_is_none_is_bad(tmp_path: Path) -> None:
    (tmp_path / "ml-1m").mkdir()
    good, bad = ({"METAREC_DATA": str(path)} for path in (tmp_path, tmp_path / "none"))
    assert doctor.data(good) == machine.Finding("ok", "data", f"{tmp_path}: ml-1m")
    assert doctor.data(bad).level == "bad"


def test_what_a_killed_endpoint_left_is_named_with_what_to_do(tmp_path: Path) -> None:
    mine = psutil.Process()
    (finding,) = doctor.left([leftovers.Leftover(tmp_path, 4711, [mine])])
    assert finding.level == "warn"
    assert f"({mine.pid})" in finding.found
    assert "process 4711" in finding.found
    assert finding.mend.startswith(f"kill {mine.pid} && rm -r {tmp_path}")


def test_a_folder_without_write_permission_is_bad(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    assert machine.disk(tmp_path).level == "bad"


def test_a_listening_port_is_found_with_its_process() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        number = server.getsockname()[1]
        (found,) = [port for port in listening() if port.port == number]
    assert found.address == "127.0.0.1"
    assert found.process.endswith(f"({os.getpid()})")
    assert not found.on_all_interfaces


@pytest.mark.parametrize(
    ("address", "everywhere"),
    [("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("::1", False), ("192.0.2.2", False)],
)
def test_a_port_on_every_interface_is_marked(address: str, everywhere: bool) -> None:
    (finding,) = machine.open_ports([Port(address, 80, "server (1)")])
    assert finding.level == ("warn" if everywhere else "ok")
    assert bool(finding.mend) == everywhere


def test_a_machine_with_one_bad_finding_is_not_usable() -> None:
    fine, doubtful = machine.Finding("ok", "a", "b"), machine.Finding("warn", "a", "b", "c")
    assert doctor.usable([fine, doubtful])
    assert not doctor.usable([fine, machine.Finding("bad", "a", "b", "c")])


def test_the_verb_prints_json_and_exits_2_on_a_bad_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAREC_DATA", "/nonexistent")
    assert main(["doctor", "--json"]) == 2
    shown = json.loads(capsys.readouterr().out)
    assert shown["usable"] is False
    bad = [one["subject"] for one in shown["findings"] if one["level"] == "bad"]
    assert bad == ["data"]
