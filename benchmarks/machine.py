"""What every result file says of the machine it was measured on."""

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def hardware() -> str:
    """Return a name for this machine's processor."""
    text = Path("/proc/cpuinfo")
    lines = text.read_text("utf-8").splitlines() if text.exists() else []
    model = next((x.split(":")[1] for x in lines if x.startswith("model name")), platform.machine())
    return f"{model.strip()}, {os.cpu_count()} cores"


def today() -> str:
    """Return the date of a result, UTC."""
    return datetime.now(UTC).date().isoformat()


def result_path(name: str) -> Path:
    """Return results/<name>_<hardware>_<date>.md."""
    slug = re.sub(r"[^a-z0-9]+", "-", hardware().lower()).strip("-")
    RESULTS.mkdir(exist_ok=True)
    return RESULTS / f"{name}_{slug}_{today()}.md"


def heading(title: str, command: str, packages: tuple[str, ...] = ("torch", "ray")) -> str:
    """Return the head of a result file: title, date, hardware, versions, command."""
    found = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"# {title}\n\n- Date: {today()}\n- Hardware: {hardware()}\n"
        f"- Versions: Python {platform.python_version()}, {found}\n- Command: `{command}`\n"
    )


def write_result(name: str, title: str, command: str, text: str) -> None:
    """Write results/<name>_<hardware>_<date>.md: the head, then `text`."""
    result_path(name).write_text(f"{heading(title, command)}\n{text.rstrip()}\n", "utf-8")
