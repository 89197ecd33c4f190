"""The quick commands of the README do what the README says: they work."""

from pathlib import Path

import pytest

from tests.readme.commands import ROOT, Block, blocks, run

README = ROOT / "README.md"
QUICK = [block for block in blocks(README.read_text("utf-8")) if block.kind == "quick"]


def test_a_page_is_read_block_by_block() -> None:
    page = "```sh\na\n```\n<!-- slow -->\n```sh\nb\nc\n```\n<!-- shown: why -->\n```sh\nd\n```\n"
    assert blocks(page) == [Block("quick", "a\n"), Block("slow", "b\nc\n"), Block("shown", "d\n")]


@pytest.mark.ray
@pytest.mark.timeout(180)
@pytest.mark.parametrize("block", QUICK, ids=lambda block: block.script.split("\n")[0])
def test_a_quick_command_of_the_readme_works(block: Block, tmp_path: Path) -> None:
    done = run(block, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
