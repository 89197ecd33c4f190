"""Commands that a page mentions: their verbs, options, targets and paths exist. Nothing is run.

A command begins a line of a block of code, or a span of code in the text. Words in capitals stand
for something of the reader's own, and so do files in no folder of the project (`experiment.yaml`).
"""

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
import yaml

from metarec_ray.cli.app import app
from metarec_ray.config.experiment import Experiment

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "cluster/*.md",
    "infra/*.md",
    "benchmarks/*.md",
)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (?:metarec|make|python) .*$", re.MULTILINE)
SPAN = re.compile(r"`((?:metarec|make|python) [^`\n]+)`")
OWN = re.compile(r"[A-Z][A-Z_|:,.0-9]*(\[.*\])?")
IN_RUN = {"store", "checkpoints", "members", "bench", "tune", "best", "best.yaml", "report.html"}
MADE = {"quickstart"}
"""Runs that a verb makes by its own default."""


def pages() -> list[Path]:
    """Return every page that mentions commands."""
    return sorted(page for pattern in PAGES for page in ROOT.glob(pattern))


def commands(text: str) -> list[str]:
    """Return the commands of a page, without comments and what joins them to others."""
    blocks = [block for language, block in FENCED.findall(text) if language in ("", "sh")]
    lines = [line for block in blocks for line in block.splitlines()]
    rest = FENCED.sub("", text)
    lines += [line.strip() for line in INDENTED.findall(rest)] + SPAN.findall(rest)
    found = [re.split(r" # |[;&]| \| ", line)[0].strip() for line in lines]
    return [line for line in found if re.match(r"(metarec|make|python) ", line)]


def mistakes(command: str, runs: set[str]) -> list[str]:
    """Return what a command names that does not exist; `runs` are folders that others make."""
    words = shlex.split(command)
    if words[0] == "make":
        return [word for word in words[1:] if "=" not in word and word not in _targets()]
    if words[0] == "python":
        named = words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]
        return [] if (ROOT / named).is_file() else [named]
    return [*_options(words[1:]), *_paths(words[1:], runs)]


def runs_made(texts: list[str]) -> set[str]:
    """Return the folders that named experiments and `--set run.dir` of commands make."""
    configs = [yaml.safe_load(path.read_text()) for path in (ROOT / "jobs/configs").glob("*.yaml")]
    named = {config.get("run", {}).get("dir", Experiment().run.dir) for config in configs}
    told = re.findall(r"--set run\.dir=(\S+)", "\n".join(texts))
    return {f"runs/{name}" for name in MADE} | named | set(told)


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _options(words: list[str]) -> Iterator[str]:
    """Yield verbs and options of `metarec` that it has not."""
    verb: Any = typer.main.get_command(app)
    while hasattr(verb, "commands") and words and not words[0].startswith("-"):
        names, words = words[0].split("|"), words[1:]
        unknown = [name for name in names if name not in verb.commands]
        yield from unknown
        if unknown or OWN.fullmatch(names[0]):
            return
        verb = verb.commands[names[0]]
    known = {option for one in verb.params for option in one.opts} | {"--help", "--"}
    # The line of another verb, which is more than a placeholder.
    if verb.name == "submit" and words and re.fullmatch("[a-z]+", words[0]):
        known |= {option for one in _named(words).params for option in one.opts}
    yield from (word for word in map(_bare, words) if word.startswith("-") and word not in known)
    for key, value in pairwise(words):
        if key == "--set" and not OWN.match(value):
            section = value.partition(".")[0]
            if section not in Experiment.model_fields and section != "section":
                yield value


def _named(words: list[str]) -> Any:
    """Return the verb that words begin with."""
    verb: Any = typer.main.get_command(app)
    while hasattr(verb, "commands"):
        verb, words = verb.commands[words[0]], words[1:]
    return verb


def _paths(words: list[str], runs: set[str]) -> Iterator[str]:
    """Yield files and folders of the project that are not there and that no command makes."""
    for word in (_bare(word).partition("=")[2] or _bare(word) for word in words):
        if "/" not in word or "://" in word or OWN.fullmatch(word):
            continue
        run = "/".join(word.split("/")[:2])
        inside = word.split("/")[2:3]
        if word.startswith("runs/"):
            if run not in runs or not set(inside) <= IN_RUN:
                yield word
        elif (ROOT / word.split("/")[0]).exists() and not (ROOT / word).exists():
            yield word


def _bare(word: str) -> str:
    return word.strip("[]")
