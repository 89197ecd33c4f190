"""A wrapper around Ray's HAProxy that secures its configuration before it runs.

Ray Serve generates HAProxy's configuration and has no setting for most of it. By default the
statistics page and the metrics listen on every interface without a password, the admin socket is
open to every user of the machine, slow connections are kept for an hour, no load is shed, and
errors are plain text. Ray lets us name the binary (`RAY_SERVE_HAPROXY_BINARY_PATH`). The format of
its configuration may change: if a patch does not fit, HAProxy is not started. HAProxy ends with the
process that started it, which Ray does not see to.

This file also runs as a script, at every reload and without site-packages: it imports the standard
library only.
"""

import argparse
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SLOW_CLIENT_S = 3
FRONTEND = "frontend http_frontend"
BASE = "https://metarec-ray.dev/problems/"


class Rules(NamedTuple):
    """What the patched HAProxy does.

    Attributes:
        host, port: of the front end.
        stats_host: of the statistics page and the metrics.
        shed: concurrent requests on the replicas above which new ones get a 503; 0 for never.
        max_body_bytes: a body that announces more gets a 413 and a closed connection; a client
            that is still sending may see a broken pipe.
        errors: folder of the error documents.

    """

    host: str
    port: int
    stats_host: str
    shed: int
    max_body_bytes: int
    errors: str


# Errors of HAProxy itself, and plain-text errors of Serve (a status it sends -> what is told).
OWN_ERRORS = {400: "malformed-request", 408: "slow-request", 502: "internal", 503: "overloaded"}
OWN_ERRORS |= {504: "deadline-exceeded"}
SERVE_ERRORS = {
    404: (404, "not-found"),
    408: (504, "deadline-exceeded"),
    500: (500, "internal"),
    503: (503, "overloaded"),
}
TITLES = {
    "malformed-request": "The request is not HTTP",
    "slow-request": "The request came too slowly",
    "internal": "The server failed",
    "overloaded": "The server is overloaded",
    "deadline-exceeded": "The answer took too long",
    "not-found": "Nothing lives at this address",
    "payload-too-large": "The body is too large",
}


def write_wrapper(path: Path, binary: Path, rules: Rules) -> None:
    """Write the script that Ray runs in place of HAProxy, and the error documents beside it."""
    # Here, because the script has no packages.
    from metarec_ray.engine.cluster import with_parent

    folder = Path(rules.errors)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for status, slug in OWN_ERRORS.items():
        (folder / f"{status}.http").write_bytes(_error_file(status, slug))
    # No site-packages (-S), no environment (-I): HAProxy starts 30 ms later than without us.
    command = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(binary)]
    command += [json.dumps(rules._asdict())]
    # It would keep its ports and answer 503 after Ray's processes are gone.
    command = with_parent.command(signal.SIGKILL, command)
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    path.chmod(0o700)


def patch(text: str, rules: Rules) -> str:
    """Return the configuration with our rules; one that has them already is returned as it is.

    Raises:
        LookupError: the configuration has no place for a rule.

    """
    if text.startswith("# patched\n"):
        return text
    text = _once(r"^( +stats socket .*) mode 666 ", r"\1 mode 600 ", text)
    text = _once(r"^defaults\n +mode http\n", rf"\g<0>{_defaults()}", text)
    text, files = re.subn(r"^ +errorfile .*\n", "", text, flags=re.MULTILINE)
    if files:
        text = _once(r"^frontend prometheus\n", f"{_error_lines(rules)}\\g<0>", text)
    text = _once(r"^(frontend prometheus\n +bind) \S*:(\d+)", rf"\1 {rules.stats_host}:\2", text)
    text = _once(r"^(listen stats\n +bind) \S*:(\d+)", rf"\1 {rules.stats_host}:\2", text)
    place = rf"^{FRONTEND}\n +bind \S+\n"
    front = f"{FRONTEND}\n    bind {rules.host}:{rules.port}\n{_front(text, rules)}"
    return "# patched\n" + _once(place, front.replace("\\", "\\\\"), text)


def main(arguments: Sequence[str]) -> None:
    """Patch the file after `-f`, then become HAProxy; its path and our rules come first."""
    binary, rules, *haproxy = arguments
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-f", type=Path, required=True)
    config: Path = parser.parse_known_args(haproxy)[0].f
    patched = patch(config.read_text(encoding="utf-8"), Rules(**json.loads(rules)))
    temporary = config.with_name(f"{config.name}.{os.getpid()}")
    temporary.write_text(patched, encoding="utf-8")
    temporary.replace(config)
    os.execv(binary, [binary, *haproxy])


def _once(pattern: str, replacement: str, text: str) -> str:
    patched, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
    if count != 1:
        raise LookupError(
            f"HAProxy's configuration must have one place like {pattern!r}, it has {count}: "
            "this Ray renders it in a form that is not known, serve without HAProxy"
        )
    return patched


def _defaults() -> str:
    """Give a client a few seconds for headers and the first bytes of a body."""
    return f"    timeout http-request {SLOW_CLIENT_S}s\n    option http-buffer-request\n"


def _error_lines(rules: Rules) -> str:
    return "".join(f"    errorfile {code} {rules.errors}/{code}.http\n" for code in OWN_ERRORS)


def _front(text: str, rules: Rules) -> str:
    """Return the front end's rules: what is too long or too much, and the form of errors."""
    lines = [
        f"http-request return status 413 {_document(413, 'payload-too-large')} "
        f"if {{ req.body_size gt {rules.max_body_bytes} }}"
    ]
    backends = re.findall(r"^backend (\S+)", text, flags=re.MULTILINE)
    for backend in backends:
        if rules.shed and backend != "default_backend":
            lines.append(
                f"http-request return status 503 {_document(503, 'overloaded')} hdr Retry-After 1 "
                f"if {{ path_beg /v1/ }} {{ be_conn({backend}) ge {rules.shed} }}"
            )
    for sent, (told, slug) in SERVE_ERRORS.items():
        retry = " hdr Retry-After 1" if told == 503 else ""
        lines.append(
            f"http-response return status {told} {_document(told, slug)}{retry} "
            f"if {{ status {sent} }} {{ res.hdr(content-type) -m beg text/plain }}"
        )
    return "".join(f"    {line}\n" for line in lines)


def _document(status: int, slug: str) -> str:
    return f"content-type application/problem+json string '{_problem(status, slug)}'"


def _problem(status: int, slug: str) -> str:
    title = TITLES[slug]
    return json.dumps({"type": BASE + slug, "title": title, "status": status, "detail": title})


def _error_file(status: int, slug: str) -> bytes:
    body = _problem(status, slug)
    retry = "Retry-After: 1\r\n" if status == 503 else ""
    return (
        f"HTTP/1.1 {status} {TITLES[slug]}\r\nContent-Type: application/problem+json\r\n"
        f"Cache-Control: no-cache\r\nConnection: close\r\n{retry}"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except LookupError as mismatch:
        sys.exit(str(mismatch))
