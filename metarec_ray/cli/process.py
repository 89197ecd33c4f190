"""What a verb is to the system: a process that signals end.

Knows signals and exit codes; does not know verbs.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from types import FrameType
from typing import ParamSpec

# 128 + SIGTERM, as a shell says it; for SIGHUP too, so that there is one code for "was ended".
ENDED = 143

P = ParamSpec("P")


class _Ended(KeyboardInterrupt):
    """Ctrl-C's exception for another signal; as itself Python would exit with 130 whatever we say.

    It does so if the exception passes through code that was compiled from a string.
    """


def ends_like_ctrl_c(main: Callable[P, int]) -> Callable[P, int]:
    """Return `main` so that SIGTERM and SIGHUP do what Ctrl-C does, with a line and exit code 143.

    A signal that is ignored when `main` begins, as under nohup, stays ignored.
    """

    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        received: list[int] = []
        with _handled(received):
            try:
                code = main(*args, **kwargs)
            except BaseException:
                if not received:
                    raise
                code = ENDED
        if not received:
            return code
        with suppress(OSError):  # the terminal may be what went away
            name = signal.Signals(received[0]).name
            print(f"metarec: ended by {name}", file=sys.stderr, flush=True)
        return ENDED

    return run


@contextmanager
def _handled(received: list[int]) -> Iterator[None]:
    """Put the first SIGTERM or SIGHUP of a `with` block into `received` and act as for Ctrl-C."""

    def end(number: int, frame: FrameType | None) -> None:
        if received:  # terminals and supervisors send several
            return
        received.append(number)
        handler = signal.getsignal(signal.SIGINT)
        # A shell starts background jobs with SIGINT ignored: then there is nothing to call.
        if handler is signal.default_int_handler or not callable(handler):
            raise _Ended
        handler(signal.SIGINT, frame)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number] or signal.SIG_DFL)
