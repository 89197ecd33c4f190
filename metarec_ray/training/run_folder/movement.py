"""When a run last moved, and when it last kept something, from the names of its files alone.

A supervisor looks every few seconds, for days: nothing that brings torch is imported. Knows where
runs, sweeps and benches write; does not know what is in the files (`engine.train.status`).
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

MEMBERS = "members"
"""Folder of a run that holds the runs of its members and folds."""
_RUNS = ("", f"{MEMBERS}/*/", "best/")
_BENCHES = ("", "bench/*/")
KEPT = (
    *(f"{run}checkpoints/step-*" for run in _RUNS),
    *(f"{bench}{kind}/*" for bench in _BENCHES for kind in ("cells", "tuned")),
    *("sweep/*/checkpoint_*", "sweep.json", "manifest.json"),
)
"""What a run that begins again does not do again."""
MOVES = (
    *KEPT,
    *(f"{run}{name}.jsonl" for run in _RUNS for name in ("metrics", "events")),
    "sweep/*/result.json",
)
"""What shows that a run moves."""
WATCHED = ("train", "distil", "tune", "bench")
"""Verbs that write such files while they run."""


def moved(folder: Path) -> float:
    """Return when a run's folder last changed, seconds since 1970; 0 if it holds nothing."""
    return _newest(folder, MOVES)


def kept(folder: Path) -> float:
    """Return when a run last kept something; 0 if it has kept nothing."""
    return _newest(folder, KEPT)


def newest_checkpoint(folder: Path) -> str | None:
    """Return the name of the newest committed checkpoint that this machine sees."""
    found = sorted(path.parent.name for path in folder.glob("checkpoints/step-*/COMMITTED"))
    return found[-1] if found else None


def changed(path: Path) -> float:
    """Return when a file or folder last changed; 0 if there is none."""
    with suppress(OSError):  # removed meanwhile
        return path.stat().st_mtime
    return 0.0


def _newest(folder: Path, patterns: Iterable[str]) -> float:
    return max((changed(path) for one in patterns for path in folder.glob(one)), default=0.0)
