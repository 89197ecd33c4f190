"""Write `report.html` into a run folder, whole or not at all.

Knows the order of the sections; a section without content is left out.
"""

import os
import tempfile
from pathlib import Path

from metarec_ray.report import example, results, sections, training
from metarec_ray.report.page import page
from metarec_ray.report.run import Run, read_run

NAME = "report.html"
_SECTIONS = (
    sections.head,
    results.verdict,
    results.curves,
    results.regret,
    example.example,
    training.curves,
    training.sweep,
    sections.data,
    results.full_table,
    sections.stages,
    sections.provenance,
)


def write_report(run: Path) -> Path:
    """Write `report.html` of the run folder and return its path; an older one is replaced.

    Raises:
        DataError: the folder has nothing to report, or a file that cannot be read.
        MachineError: matplotlib is not installed, and there is something to draw.

    """
    text = render(read_run(run))
    path = run / NAME
    descriptor, temporary = tempfile.mkstemp(prefix=f".{NAME}.", dir=run)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def render(run: Run) -> str:
    """Return the page with all sections that have content."""
    parts = [section(run) for section in _SECTIONS]
    return page(f"metarec: {run.name}", [part for part in parts if part])
