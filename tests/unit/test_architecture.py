"""docs/architecture.md against the package: the journey of an event, and the layers."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
STEPS = re.findall(r"^\| .* \| `([a-z_.]+)` \| `([A-Za-z_.]+)` \|.*$", PAGE, re.MULTILINE)
MOST = 14  # modules of a folder, beside its subfolders


def test_the_journey_is_told_from_a_row_to_an_answer() -> None:
    assert len(STEPS) == 19


@pytest.mark.parametrize(("module", "name"), STEPS)
def test_every_step_of_the_journey_is_where_the_page_says(module: str, name: str) -> None:
    found = import_module(f"metarec_ray.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)
    assert found.__doc__


def test_the_layers_of_the_page_are_those_that_the_linter_holds() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (layers,) = [c["layers"] for c in contracts["contracts"] if c["name"] == "Layers"]
    assert "".join(f"    {layer}\n" for layer in layers) in PAGE


def folders() -> list[Path]:
    package = ROOT / "metarec_ray"
    return [folder.parent for folder in sorted(package.rglob("__init__.py"))]


def test_no_folder_has_more_modules_than_fit_a_glance() -> None:
    crowded = {
        str(folder.relative_to(ROOT)): names
        for folder in folders()
        if len(names := [p.name for p in folder.glob("*.py") if p.name != "__init__.py"]) > MOST
    }
    assert crowded == {}


def test_the_top_holds_four_modules_and_packages() -> None:
    top = {path.name for path in (ROOT / "metarec_ray").glob("*.py")}
    own = {"atomic.py", "checkpoint.py", "committed_files.py", "errors.py"}
    assert top == {"__init__.py", "__main__.py"} | own


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_a_folder_says_where_to_begin_and_hands_nothing_on(folder: Path) -> None:
    text = (folder / "__init__.py").read_text("utf-8")
    assert text.startswith('"""')
    imported = re.findall(r"^(?:from|import) .*$", text, re.MULTILINE)
    own = {
        "engine": ["import os", "from metarec_ray.engine.cluster.access import require_token_mode"]
    }
    assert imported == own.get(folder.name, [])
    if folder.name != "metarec_ray":
        assert "Begin with" in text
