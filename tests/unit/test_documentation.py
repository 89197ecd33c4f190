"""What the pages tell a reader to type exists: verbs, options, targets, files, runs."""

from pathlib import Path

import pytest

from tests.readme.mentions import ROOT, commands, mistakes, pages, runs_made

TEXTS = {page: page.read_text("utf-8") for page in pages()}
RUNS = runs_made(list(TEXTS.values()))


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_mentions_nothing_that_does_not_exist(page: Path) -> None:
    wrong = {line: found for line in commands(TEXTS[page]) if (found := mistakes(line, RUNS))}
    assert wrong == {}


def test_commands_are_found_in_blocks_in_indented_lines_and_in_the_text() -> None:
    page = (
        "```sh\nmetarec doctor    # a comment\nls\n```\n```python\nmetarec nothing\n```\n"
        "    metarec report RUN\n\nAs `make test` does, `metarec`, and `rank` too.\n"
        "```\nmetarec serve runs/a & server=$!\n```\n"
    )
    assert commands(page) == [
        "metarec doctor",
        "metarec serve runs/a",
        "metarec report RUN",
        "make test",
    ]


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("metarec evaluate RUN|CONFIG --protocol a|b [--json]", []),
        ("metarec cluster up|down", []),
        ("metarec data describe runs/quickstart/store --version 1", []),
        ("metarec train experiment.yaml --set train.steps=3", []),
        ("metarec serve runs/quickstart/checkpoint", ["runs/quickstart/checkpoint"]),
        ("metarec serve runs/nothing", ["runs/nothing"]),
        ("metarec train jobs/configs/none.yaml", ["jobs/configs/none.yaml"]),
        ("metarec trian x.yaml", ["trian"]),
        ("metarec cluster up|off", ["off"]),
        ("metarec rank URL --suport 3 -k 10", ["--suport"]),
        ("metarec train x.yaml --set trian.steps=3", ["trian.steps=3"]),
        ("make quickstart DATA=ml-1m", []),
        ("make nothing", ["nothing"]),
        ("python -m benchmarks.bench_train", []),
        ("python benchmarks/none.py", ["benchmarks/none.py"]),
    ],
)
def test_what_does_not_exist_is_found(command: str, wrong: list[str]) -> None:
    assert mistakes(command, RUNS) == wrong
