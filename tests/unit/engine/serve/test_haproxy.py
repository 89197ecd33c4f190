import json
import subprocess
from pathlib import Path

import pytest

from metarec_ray.engine.serve.haproxy import BASE as WRAPPER_BASE
from metarec_ray.engine.serve.haproxy import TITLES, Rules, patch, write_wrapper
from metarec_ray.service.problems import BASE, KINDS

# The lines of Ray 2.60's configuration that a rule touches, and some that none does.
RENDERED = """global
    stats socket /r/admin mode 666 level admin expose-fd listeners
    maxconn 4096
defaults
    mode http
    option log-health-checks
    errorfile 502 /r/500.http
    errorfile 503 /r/500.http
    balance leastconn
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind *:8000
    use_backend http-films if is_http-films
    default_backend default_backend
backend default_backend
    http-request return status 404
backend http-films
    server s1 127.0.0.1:30000 check
listen stats
  bind *:8404
  stats enable
"""
RULES = Rules("127.0.0.1", 8000, "127.0.0.1", 6, 1 << 20, "/r/errors")


def test_no_line_binds_to_every_interface_any_more() -> None:
    binds = [line.strip() for line in patch(RENDERED, RULES).splitlines() if "bind " in line]
    assert binds == ["bind 127.0.0.1:9101", "bind 127.0.0.1:8000", "bind 127.0.0.1:8404"]


def test_an_open_front_end_leaves_the_statistics_closed() -> None:
    patched = patch(RENDERED, RULES._replace(host="0.0.0.0"))
    binds = [line.strip() for line in patched.splitlines() if "bind " in line]
    assert binds == ["bind 127.0.0.1:9101", "bind 0.0.0.0:8000", "bind 127.0.0.1:8404"]


def test_the_admin_socket_is_its_owners() -> None:
    assert "stats socket /r/admin mode 600 level admin" in patch(RENDERED, RULES)


def test_slow_clients_long_bodies_and_too_many_requests_are_refused() -> None:
    patched = patch(RENDERED, RULES)
    assert "defaults\n    mode http\n    timeout http-request 3s\n" in patched
    assert "    option http-buffer-request\n" in patched
    assert "if { req.body_size gt 1048576 }" in patched
    assert "hdr Retry-After 1 if { path_beg /v1/ } { be_conn(http-films) ge 6 }" in patched
    assert "be_conn(default_backend)" not in patched


def test_zero_sheds_nothing() -> None:
    assert "be_conn" not in patch(RENDERED, RULES._replace(shed=0))


def test_errors_are_ours() -> None:
    patched = patch(RENDERED, RULES)
    assert "/r/500.http" not in patched
    assert patched.count("errorfile ") == 5
    assert "errorfile 503 /r/errors/503.http" in patched


def test_a_patched_configuration_is_left_alone() -> None:
    once = patch(RENDERED, RULES)
    assert patch(once, RULES) == once


@pytest.mark.parametrize(
    "line",
    ["  bind *:8404\n", "    bind :9101\n", "    bind *:8000\n", " mode 666", "defaults\n"],
)
def test_a_configuration_of_another_form_is_refused(line: str) -> None:
    with pytest.raises(LookupError, match=r"must have one place like .* it has 0"):
        patch(RENDERED.replace(line, ""), RULES)


def test_the_problem_types_are_those_of_the_application() -> None:
    assert WRAPPER_BASE == BASE
    slugs = {kind.slug: kind.title for kind in KINDS.values()}
    shared = set(slugs) & set(TITLES)
    assert {"overloaded", "deadline-exceeded", "payload-too-large", "not-found"} <= shared
    assert {slug: TITLES[slug] for slug in shared} == {slug: slugs[slug] for slug in shared}


def wrap(folder: Path, rendered: str) -> subprocess.CompletedProcess[str]:
    """Run the wrapper of a program that prints its arguments."""
    config = folder / "haproxy.cfg"
    config.write_text(rendered)
    wrapper = folder / "it's a wrapper"
    write_wrapper(wrapper, Path("/bin/echo"), RULES._replace(errors=str(folder / "errors")))
    return subprocess.run(
        [str(wrapper), "-db", "-f", str(config), "-sf", "1", "-x", "sock"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wrapper_patches_the_file_and_hands_every_argument_on(tmp_path: Path) -> None:
    ran = wrap(tmp_path, RENDERED)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split() == ["-db", "-f", f"{tmp_path}/haproxy.cfg", "-sf", "1", "-x", "sock"]
    assert (tmp_path / "haproxy.cfg").read_text().startswith("# patched\nglobal\n")
    document = (tmp_path / "errors" / "503.http").read_bytes().decode()
    head, _, body = document.partition("\r\n\r\n")
    assert "Retry-After: 1" in head
    assert f"Content-Length: {len(body)}" in head
    assert json.loads(body)["type"] == f"{BASE}overloaded"


def test_the_wrapper_starts_nothing_that_it_could_not_patch(tmp_path: Path) -> None:
    ran = wrap(tmp_path, "global\n")
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert "HAProxy's configuration must have one place like" in ran.stderr
    assert (tmp_path / "haproxy.cfg").read_text() == "global\n"
