"""Who may read the token, and when token mode is asked for."""

import stat
from pathlib import Path

import pytest

from metarec_ray.engine.cluster import access


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
    environ = {"METAREC_HOME": str(tmp_path), name: "theirs"}
    assert access.use_own_token(environ) is None
    assert environ == {"METAREC_HOME": str(tmp_path), name: "theirs"}
    assert list(tmp_path.iterdir()) == []


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
