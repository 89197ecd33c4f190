"""How many trials of a sweep, or cells of a bench, a run's folder holds.

Knows their files; does not know what a trial or a cell is.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from metarec_ray.config.experiment import load
from metarec_ray.errors import MetarecError
from metarec_ray.training.run_folder.movement import changed

ENDED = ("TERMINATED", "ERROR")
"""Of Ray Tune, for a trial."""


class Count(NamedTuple):
    """What has ended, of how many (None: not known from the folder), and whether that is all."""

    unit: Literal["trials", "cells"]
    ended: int
    planned: int | None
    finished: bool

    def sentence(self) -> str:
        """Return the count in words.

        >>> Count("trials", 3, 8, False).sentence(), Count("cells", 3, None, True).sentence()
        ('3 of 8 trials ended', '3 cells ended')
        """
        of = "" if self.planned is None else f" of {self.planned}"
        return f"{self.ended}{of} {self.unit} ended"


def count(folder: Path) -> Count | None:
    """Return what a sweep or a bench in the folder has done; None if it holds neither."""
    if (folder / "sweep.yaml").is_file():
        return _trials(folder)
    cells = [*folder.glob("cells/*.json"), *folder.glob("bench/*/cells/*.json")]
    if not cells:
        return None
    tables = [*folder.glob("results.json"), *folder.glob("bench/*/results.json")]
    newest = max(changed(path) for path in tables) if tables else 0.0
    finished = newest >= max(map(changed, cells))
    return Count("cells", len(cells), None, finished)


def _trials(folder: Path) -> Count:
    planned = None
    with suppress(MetarecError, OSError):  # of another version
        planned = load(folder / "sweep.yaml").sweep.planned
    ended = 0
    for path in sorted(folder.glob("sweep/experiment_state-*.json"))[-1:]:
        with suppress(OSError, ValueError, KeyError, TypeError):  # being written
            trials = json.loads(path.read_text("utf-8"))["trial_data"]
            ended = sum(json.loads(trial)["status"] in ENDED for trial, *_ in trials)
    table = (folder / "sweep.json").is_file()
    return Count("trials", ended, planned, table and (planned is None or ended >= planned))
