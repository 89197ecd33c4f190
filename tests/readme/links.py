"""Check that every relative link of the pages leads to a file, and to a heading of it."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def broken(page: Path) -> list[str]:
    """Return a line for each relative link of a page without a target, or without its heading."""
    found = []
    for path, anchor in LINK.findall(page.read_text("utf-8")):
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            found.append(f"{page.relative_to(ROOT)}: no such file: {path}")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            found.append(f"{page.relative_to(ROOT)}: no such heading: {path}#{anchor}")
    return found


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in headings}


def main() -> int:
    """Print the broken links of every tracked or new page; return 1 if there are any."""
    line = ["git", "ls-files", "-co", "--exclude-standard", "*.md"]
    listed = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pages = [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]
    lines = [line for page in pages for line in broken(page)]
    print("\n".join(lines) if lines else f"{len(pages)} pages, no broken link")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
