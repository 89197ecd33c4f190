"""What no module of the package does: unpickle what it reads, or evaluate it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import metarec_ray

FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "torch.load",
    "torch.save",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.load_all",
}


def called(function: ast.expr) -> str:
    """Return `name` or `module.name`, empty for anything else that can be called."""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return f"{function.value.id}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""


def dangers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
            yield from names & FORBIDDEN_MODULES
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
                yield str(node.module)
            yield from (
                f"{node.module}.{alias.name}"
                for alias in node.names
                if f"{node.module}.{alias.name}" in FORBIDDEN_CALLS
            )
        elif isinstance(node, ast.Call):
            if (name := called(node.func)) in FORBIDDEN_CALLS:
                yield name
            yield from (
                word.arg for word in node.keywords if word.arg in ("weights_only", "allow_pickle")
            )


def test_the_search_for_dangers_finds_them() -> None:
    code = """
import pickle
from joblib import load
from torch import load
torch.load(path, weights_only=False)
np.load(path, allow_pickle=True)
yaml.load(text)
eval(text)
yaml.safe_load(text)
model.eval()
"""
    assert sorted(dangers(ast.parse(code))) == [
        "allow_pickle",
        "eval",
        "joblib",
        "pickle",
        "torch.load",
        "torch.load",
        "weights_only",
        "yaml.load",
    ]


def test_nothing_in_the_package_unpickles_or_evaluates() -> None:
    root = Path(metarec_ray.__file__).parent
    files = sorted(root.rglob("*.py"))
    assert len(files) > 40
    found = {
        f"{path.relative_to(root)}: {danger}"
        for path in files
        for danger in dangers(ast.parse(path.read_text("utf-8")))
    }
    assert found == set()
