"""Who may read the token, and when token mode is asked for."""

import stat
from pathlib import Path

import pytest

from metarec_ray.engine.cluster import access
from metarec_ray.errors import MachineError


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_token_has_256_bits_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = access.token_file(tmp_path / "home")
    assert len(bytes.fromhex(path.read_text())) * 8 == 256
    assert _mode(path) == 0o600
    assert _mode(path.parent) == 0o700
    assert [one.name for one in path.parent.iterdir()] == ["auth_token"]


def test_a_token_is_made_once(tmp_path: Path) -> None:
    first = access.token_file(tmp_path).read_text()
    assert access.token_file(tmp_path).read_text() == first


def test_a_token_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "auth_token"
    path.write_text("0" * 64)
    path.chmod(0o644)
    assert _mode(access.token_file(tmp_path)) == 0o600


def test_ray_is_pointed_at_our_token(tmp_path: Path) -> None:
    environ = {"METAREC_HOME": str(tmp_path)}
    path = access.use_own_token(environ)
    assert environ["RAY_AUTH_TOKEN_PATH"] == str(path) == str(tmp_path / "auth_token")


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_that_the_user_names_wins(name: str, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    access.write_private(theirs, "0" * 64)
    environ = {"METAREC_HOME": str(tmp_path / "home"), name: str(theirs)}
    assert access.use_own_token(environ) is None
    assert environ == {"METAREC_HOME": str(tmp_path / "home"), name: str(theirs)}
    assert not (tmp_path / "home").exists()


def test_a_token_of_the_environment_loses_its_outer_space(tmp_path: Path) -> None:
    environ = {"METAREC_HOME": str(tmp_path), "RAY_AUTH_TOKEN": " 0123\n"}
    access.use_own_token(environ)
    assert environ["RAY_AUTH_TOKEN"] == "0123"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "RAY_AUTH_TOKEN_PATH must name a file with a token, got No such file"),
        (b" \n", "RAY_AUTH_TOKEN_PATH must name a file with a token, it is empty"),
        (b"abc\xff", "character 4 of it is none"),
    ],
)
def test_a_path_to_no_token_is_a_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "theirs"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(MachineError, match=said) as refused:
        access.use_own_token({"RAY_AUTH_TOKEN_PATH": str(path)})
    assert str(path) in str(refused.value)
    assert "abc" not in str(refused.value).replace(str(path), "")


def test_a_token_file_of_the_user_that_others_could_read_is_narrowed_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "theirs"
    path.write_text("0" * 64)
    path.chmod(0o644)
    access.use_own_token({"RAY_AUTH_TOKEN_PATH": str(path)})
    assert _mode(path) == 0o600
    assert f"{path} had mode 0644, others could read it: it has 0600 now" in caplog.text


def test_without_a_home_to_write_to_a_token_lives_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environ = {"METAREC_HOME": str(tmp_path / "file" / "home")}
    assert access.use_own_token(environ) is None
    assert len(environ["RAY_AUTH_TOKEN"]) == 64


def test_where_a_file_is_needed_a_home_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="METAREC_HOME must be a folder that can be written"):
        access.writable_home({"METAREC_HOME": str(tmp_path / "file" / "home")})


def test_a_user_without_a_home_has_one_at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert access.home({}) == Path("/.metarec")


def test_a_private_file_replaces_an_open_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o666)
    access.write_private(path, "new")
    assert (path.read_text(), _mode(path)) == ("new", 0o600)


def test_the_users_choice_of_a_mode_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(access.sys.modules, "ray", raising=False)
    environ = {"RAY_AUTH_MODE": "disabled"}
    access.require_token_mode(environ)
    assert environ["RAY_AUTH_MODE"] == "disabled"
    assert environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_token_mode_is_asked_for_before_ray_is_imported_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before: dict[str, str] = {}
    monkeypatch.delitem(access.sys.modules, "ray", raising=False)
    access.require_token_mode(before)
    monkeypatch.setitem(access.sys.modules, "ray", access)
    after: dict[str, str] = {}
    access.require_token_mode(after)
    assert (before.get("RAY_AUTH_MODE"), after.get("RAY_AUTH_MODE")) == ("token", None)


@pytest.mark.parametrize(
    ("environ", "kept"),
    [
        ({}, ""),
        ({"no_proxy": "a, b"}, "a,b,"),
        ({"NO_PROXY": "a"}, "a,"),
        ({"no_proxy": "::1"}, ""),
    ],
)
def test_a_proxy_is_never_asked_for_this_machine(environ: dict[str, str], kept: str) -> None:
    access.spare_loopback(environ)
    assert environ["no_proxy"].startswith(kept)
    assert set(access.LOOPBACK) <= set(environ["no_proxy"].split(","))
    assert environ["NO_PROXY"] == environ["no_proxy"]


def test_who_excepts_everything_from_proxies_is_left_alone() -> None:
    environ = {"no_proxy": "*"}
    access.spare_loopback(environ)
    assert environ == {"no_proxy": "*"}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://localhost:1", "http://[::1]:1"])
def test_the_clients_that_we_use_understand_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.request import proxy_bypass

    from requests.utils import get_environ_proxies

    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://192.0.2.1:3128")
    environ: dict[str, str] = {}
    access.spare_loopback(environ)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert get_environ_proxies(url, None) == {}
    assert proxy_bypass(url.removeprefix("http://").removesuffix("/x"))
