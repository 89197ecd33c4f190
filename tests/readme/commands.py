"""Run the commands of README.md as they stand there, block by block, from the project's root.

A block is fenced with ```sh. A comment in the line before says what is done with it: without one
it is quick (under a minute) and `make test` runs it; `<!-- slow -->` blocks run with `--all`;
`<!-- shown: REASON -->` blocks are never run.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"(?:^<!-- (slow|shown: [^\n]+) -->\n)?^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
LIMIT_S = 1200


class Block(NamedTuple):
    """Lines of shell; `kind` is quick, slow or shown."""

    kind: str
    script: str


def blocks(text: str) -> list[Block]:
    """Return the shell blocks of a page in order."""
    return [
        Block((kind or "quick").partition(":")[0], script) for kind, script in BLOCK.findall(text)
    ]


def run(block: Block, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a block in bash up to its first failing line; what it left running is ended."""
    path = os.pathsep.join([str(ROOT / ".venv" / "bin"), os.environ.get("PATH", os.defpath)])
    script = (
        f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{block.script}"
    )
    return subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=os.environ | {"PATH": path, "METAREC_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def main(arguments: list[str]) -> int:
    """Run the quick blocks, with `--all` the slow ones too; return 1 if one failed."""
    kinds = {"quick", "slow"} if "--all" in arguments else {"quick"}
    failed = 0
    with tempfile.TemporaryDirectory(prefix="metarec-readme-") as home:
        for block in blocks((ROOT / "README.md").read_text("utf-8")):
            if block.kind not in kinds:
                continue
            begun = time.monotonic()
            done = run(block, Path(home))
            seconds = time.monotonic() - begun
            print(f"exit {done.returncode} in {seconds:.0f} s\n{block.script}", flush=True)
            if done.returncode:
                failed += 1
                print(f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
