"""A text file that appears whole or not at all, and replaces an older one in one step."""

from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 beside `path` and rename it; makes the folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
