"""What a verb is to the system: a process that signals end, whose stdout somebody reads.

Knows signals, exit codes and streams; does not know verbs.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from types import FrameType
from typing import Any, ParamSpec, TextIO

import psutil

from metarec_ray.errors import MachineError

# 128 + SIGTERM, as a shell says it; for SIGHUP too, so that there is one code for "was ended".
ENDED = 143
# A signal to the whole process group ends Ray's core before us, which then waits for it.
PATIENCE_S = 30.0

_received: list[int] = []

P = ParamSpec("P")


class _Ended(KeyboardInterrupt):
    """Ctrl-C's exception for another signal; as itself Python would exit with 130 whatever we say.

    It does so if the exception passes through code that was compiled from a string.
    """


class Results:
    """A stdout that holds results only, and whose reader may go away.

    What other threads write, as Ray's do, goes to stderr. A reader that has seen enough, like
    `head`, is no error: what is written after it is dropped.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.reader_is_gone = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if threading.current_thread() is not threading.main_thread():
            return sys.stderr.write(text)
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self._stream.flush()

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self.reader_is_gone = True
            _send_nowhere(self._stream)
        except OSError as error:
            _send_nowhere(self._stream)
            raise MachineError(f"stdout must be writable, got {error}") from None


def reader_is_gone() -> bool:
    """Return whether nobody reads stdout any more."""
    return isinstance(sys.stdout, Results) and sys.stdout.reader_is_gone


def is_ending() -> bool:
    """Return whether a signal is ending this verb."""
    return bool(_received)


def as_process(main: Callable[P, int]) -> Callable[P, int]:
    """Return `main` as what a process runs.

    SIGTERM and SIGHUP do what Ctrl-C does, with a line and exit code 143; one that is ignored when
    `main` begins, as under nohup, stays ignored. Stdout is `Results`, and whole at the end.
    """

    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        _received.clear()
        with _handled(), _results():
            try:
                code = main(*args, **kwargs)
                code = code if _flushed() else 2
            except BaseException:
                if not _received:
                    raise
                code = ENDED
        if not _received:
            return code
        _tell()
        return ENDED

    return run


def _tell() -> None:
    with suppress(OSError):  # the terminal may be what went away
        name = signal.Signals(_received[0]).name
        print(f"metarec: ended by {name}", file=sys.stderr, flush=True)


def _give_up() -> None:
    """End this process and what it started, without a look at what is left."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    _tell()
    os._exit(ENDED)


@contextmanager
def _results() -> Iterator[None]:
    if sys.stderr is None:  # print would write to stdout then
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    stdout = sys.stdout
    if stdout is not None:  # it may be closed
        if isinstance(stdout, io.TextIOWrapper):
            # A title that the terminal's encoding has not is no failure.
            stdout.reconfigure(errors="backslashreplace")
        sys.stdout = Results(stdout)
    try:
        yield
    finally:
        sys.stdout = stdout


def _flushed() -> bool:
    """Write what is buffered; return False, and say so, if the system refuses."""
    if sys.stdout is None:
        return True
    try:
        sys.stdout.flush()
    except MachineError as error:
        print(f"metarec: {error}", file=sys.stderr)
        return False
    return True


def _send_nowhere(stream: TextIO) -> None:
    """Drop what is buffered and what follows, which Python would write when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def _handled() -> Iterator[None]:
    """Put the first SIGTERM or SIGHUP of a `with` block into `_received`, act as for Ctrl-C."""

    def end(number: int, frame: FrameType | None) -> None:
        if _received:  # terminals and supervisors send several
            return
        _received.append(number)
        timer.start()
        handler = signal.getsignal(signal.SIGINT)
        # A shell starts background jobs with SIGINT ignored: then there is nothing to call.
        if handler is signal.default_int_handler or not callable(handler):
            raise _Ended
        handler(number, frame)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    timer = threading.Timer(PATIENCE_S, _give_up)
    timer.daemon = True
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, end)
    try:
        yield
    finally:
        timer.cancel()
        for number in heard:
            signal.signal(number, before[number] or signal.SIG_DFL)
