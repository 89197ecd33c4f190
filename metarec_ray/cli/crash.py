"""What nobody foresaw, told in one sentence; the rest of it goes into a file.

Knows exceptions and warnings; does not know any verb, nor what stdout is (`process`).
"""

import os
import platform
import re
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("metarec-ray", "ray", "torch", "polars", "pyarrow", "pydantic", "typer")
LONGEST = 200  # characters of a foreign message
SECRETS = (
    (re.compile(r"(\w+://[^\s/@:]*):[^\s/@]+@"), r"\1:***@"),
    (re.compile(r"(?i)((?:key|token|secret|password|sig) ?[=:]\s*)[^\s&,;'\"]+"), r"\1***"),
    (re.compile(r"(?i)(bearer )[^\s'\"]+"), r"\1***"),
)


def tell(error: BaseException, words: Sequence[str]) -> int:
    """Say in one sentence on stderr what happened and where its report lies; return exit code 1.

    A reader of the output that went away is told nothing.
    """
    if isinstance(error, BrokenPipeError):
        return 1
    cause = getattr(error, "cause", None) or error  # of Ray's: the worker's own exception
    text = " ".join(str(cause).split())
    text = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    what = ": ".join(part for part in (type(cause).__name__, text) if part)
    print(
        f"metarec: a run must not end like this, got {_hidden(what, os.environ)} "
        f"({_reported(error, words)})",
        file=sys.stderr,
    )
    return 1


@contextmanager
def own_warnings() -> Iterator[None]:
    """Show warnings of this package as a line on stderr, none of others; all as Python if asked."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if category.__module__.startswith("metarec_ray."):
            print(f"warning: {message}", file=sys.stderr)

    if not sys.warnoptions:  # -W, PYTHONWARNINGS
        warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


def _reported(error: BaseException, words: Sequence[str]) -> str:
    """Return where the report was written, for its owner alone, or why it was not."""
    lines = [
        f"command: {shlex.join(['metarec', *words])}",
        f"python: {platform.python_version()} on {platform.platform()}",
        *(f"{name}: {_version(name)}" for name in PACKAGES),
        "",
        *traceback.format_exception(error),
    ]
    try:
        descriptor, path = tempfile.mkstemp(prefix="metarec-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(_hidden("\n".join(lines), os.environ))
    except OSError as refused:
        return f"no report could be written: {refused}"
    return f"report: {path}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _hidden(text: str, environ: Mapping[str, str]) -> str:
    """Return the text without passwords in addresses, keys and tokens."""
    for name in ("METAREC_API_KEY", "RAY_AUTH_TOKEN"):
        text = text.replace(environ.get(name) or "\0", "***")
    for pattern, instead in SECRETS:
        text = pattern.sub(instead, text)
    return text
