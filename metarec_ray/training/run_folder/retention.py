"""Which checkpoints of a run are kept, and how the others are removed.

Knows their steps and metrics; does not know what trained them.
"""

import json
import math
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from metarec_ray import checkpoint as checkpoints
from metarec_ray.checkpoint import METRICS, TEMPORARY
from metarec_ray.config.running import Keep

METRIC = "query_loss"
"""Of the last line of progress before a checkpoint; less is better."""
_REMOVED = ".removed"


def retain(folder: Path, keep: Keep, *, written: Path) -> list[Path]:
    """Remove all checkpoints of a run's folder but those to keep; return the removed ones.

    Kept are the `last` newest of those up to `written`, the one that was written last, and the
    `best` by `METRIC`, of equal ones the newest; one whose metrics cannot be read is not among the
    best. A checkpoint is renamed before it is removed: whoever looks finds it whole, or not at all.
    What a kill left half removed or half written goes, too: nobody else writes while this runs.
    """
    found = checkpoints.committed(folder)
    # A run that went on from before others found them damaged: it will replace them.
    own = [path for path in found if path.stem <= written.stem]
    kept = {*own[-keep.last :], *found[len(own) :], *_best(found, keep.best)}
    for ending in (_REMOVED, TEMPORARY):
        for path in folder.glob(f".step-*{ending}"):
            shutil.rmtree(path, ignore_errors=True)
    gone: list[Path] = []
    for path in found:
        if path in kept:
            continue
        aside = path.with_name(f".{path.name}{_REMOVED}")
        with suppress(OSError):  # A disk that refuses costs room, not the run.
            path.rename(aside)
            gone.append(path)
            shutil.rmtree(aside)
    return gone


def _best(found: Sequence[Path], count: int) -> list[Path]:
    metrics = {path: _metric(path) for path in found} if count else {}
    told = [path for path, value in metrics.items() if value is not None]
    # Newest first, which a stable sort leaves among equals.
    return sorted(reversed(told), key=lambda path: metrics[path] or 0.0)[:count]


def _metric(path: Path) -> float | None:
    with suppress(OSError, ValueError):
        metrics = json.loads((path / METRICS).read_text("utf-8"))
        value = metrics.get(METRIC) if isinstance(metrics, dict) else None
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    return None
