"""A program that the kernel ends when its parent ends, however that ends.

Runs as a script, without site-packages: it imports the standard library only. Knows Linux's
`prctl`; does not know what it starts.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1


def command(number: signal.Signals, program: Sequence[str]) -> list[str]:
    """Return a command line that runs `program`, which gets the signal when its parent ends."""
    # No site-packages (-S) and no environment (-I): 10 ms.
    script = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    return [*script, str(int(number)), *program]


def main(arguments: Sequence[str]) -> None:
    """Become the program; the signal's number comes first."""
    number, *program = arguments
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:  # it ended before the kernel was asked
        sys.exit("the parent must live when its child starts, it has ended")
    os.execvp(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
