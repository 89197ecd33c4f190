import stat
from pathlib import Path

import pytest

from metarec_ray.errors import MachineError
from metarec_ray.service.auth import Keyring, find_key, find_or_make_key, presented

KEY = "a-key-of-thirty-two-characters-0"


def test_a_ring_opens_for_each_of_its_keys_and_for_no_other() -> None:
    ring = Keyring.of(KEY, "another-" + KEY)
    assert ring.opens(KEY)
    assert ring.opens("another-" + KEY)
    assert not ring.opens(KEY[:-1])
    assert not ring.opens("")
    assert not ring.opens("\udcff")


def test_a_ring_holds_no_key_in_the_clear() -> None:
    assert KEY.encode() not in b"".join(Keyring.of(KEY).digests)
    assert KEY not in repr(vars(Keyring.of(KEY)))


def test_an_empty_ring_is_refused() -> None:
    with pytest.raises(MachineError, match="at least one API key, got none"):
        Keyring(())


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bEARER  abc "}, "abc"),
        ({"x-api-key": "abc"}, "abc"),
        ({"authorization": "Bearer one", "x-api-key": "two"}, "one"),
        ({"authorization": "Basic one", "x-api-key": "two"}, "two"),
        ({"authorization": "Bearer "}, None),
        ({}, None),
    ],
)
def test_a_key_is_read_from_either_header(headers: dict[str, str], key: str | None) -> None:
    assert presented(headers) == key


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("from-the-file-12345\n")
    path.chmod(0o600)
    assert find_key({}, path) == "from-the-file-12345"
    assert find_key({"METAREC_API_KEY": KEY}, path) == KEY


def test_no_key_is_none(tmp_path: Path) -> None:
    assert find_key({}, tmp_path / "key") is None


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o644)
    with pytest.raises(MachineError, match=r"must have mode 0600, got 0644: chmod 600 .*key"):
        find_key({}, path)


@pytest.mark.parametrize("key", ["", "short"])
def test_a_key_that_can_be_guessed_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=rf"16 characters, got {len(key)} \(METAREC_API_KEY\)"):
        find_key({"METAREC_API_KEY": key}, tmp_path / "key")


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "home" / "key"
    key = find_or_make_key({}, path)
    assert len(key) == 43  # 256 bits, 6 a character, rounded up
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert find_or_make_key({}, path) == key
    assert find_key({}, path) == key


def test_outer_white_space_of_a_key_is_nothing(tmp_path: Path) -> None:
    assert find_key({"METAREC_API_KEY": f"\t{KEY} \r\n"}, tmp_path / "key") == KEY


@pytest.mark.parametrize("wrong", ["\n", "\x00", "\u00e9", "\u20ac", "\udcff"])
def test_a_key_that_no_header_can_carry_is_refused_without_telling_it(
    wrong: str, tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match=r"character 33 of it is none \(METAREC_API") as refused:
        find_key({"METAREC_API_KEY": f"{KEY}{wrong}tail"}, tmp_path / "key")
    assert KEY not in str(refused.value)
    assert "tail" not in str(refused.value)


def test_where_no_key_can_be_kept_both_ways_out_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "key"
    with pytest.raises(MachineError, match="set METAREC_API_KEY, or METAREC_HOME to a folder"):
        find_or_make_key({}, path)
    assert find_or_make_key({"METAREC_API_KEY": KEY}, path) == KEY
