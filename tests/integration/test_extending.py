"""docs/extending.md by doing it: its files and the lines of their unions, in a copy."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "extending.md"
TRAIN = """
import json
import sys
from pathlib import Path
from metarec_ray.config.experiment import parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.inference.recommender import Recommender, SupportEvent
from metarec_ray.training.fit import fit

for settings in json.loads(sys.argv[2]):
    settings["train"] = {"steps": 3, "lanes": 2, "lane_tasks": 4} | settings.get("train", {})
    served = Recommender(fit(parse(settings, "test"), TaskStore.open(Path(sys.argv[1]))))
    before = served.rank([], k=5).items
    ranked = served.rank([SupportEvent(served.ids[3])], k=5).items
    print(len(ranked), served.metadata["algorithm"]["name"], before != ranked)
"""
EXPERIMENTS = """[
 {"algorithm": {"name": "mean_shift"}, "model": {"dim": 4}},
 {"algorithm": {"name": "bayesian_head"}, "model": {"dim": 4, "encoder": {"name": "attention"}}},
 {"algorithm": {"name": "maml"}, "train": {"loss": {"name": "pairwise"}},
  "model": {"dim": 4, "encoder": {"name": "attention", "adapts": true}}},
 {"algorithm": {"name": "fomaml"}, "model": {"dim": 4},
  "train": {"loss": {"name": "pairwise"}, "tasks": {"negatives": 5}}}
]"""
UNIONS = {
    "mean_shift": "algorithms/union.py",
    "attention": "models/encoders/union.py",
    "pairwise": "algorithms/losses/union.py",
}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def apply(path: Path, block: str) -> None:
    """Do what a block of `+` and `-` lines says: replace its old lines by its new ones."""
    lines = block.splitlines()
    old = [line[1:] for line in lines if not line.startswith("+")]
    new = [line[1:] for line in lines if not line.startswith("-")]
    text = path.read_text("utf-8")
    anchor = "\n".join(old)
    if not anchor:
        path.write_text(text.replace("\n\n", "\n\n" + "\n".join(new) + "\n", 1), "utf-8")
        return
    assert text.count(anchor) == 1, anchor
    path.write_text(text.replace(anchor, "\n".join(new)), "utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package, to which the page has been done."""
    folder = tmp_path_factory.mktemp("extended")
    package = folder / "metarec_ray"
    shutil.copytree(ROOT / "metarec_ray", package, ignore=shutil.ignore_patterns("__pycache__"))
    named = re.findall(r"^`metarec_ray/(.*)`:$", PAGE.read_text("utf-8"), re.MULTILINE)
    for path, source in zip(named, blocks("python"), strict=True):
        (package / path).write_text(source, "utf-8")
    changes = [block for block in blocks("diff") if not block.startswith("+###")]
    assert [Path(path).stem for path in named] == list(UNIONS)
    for number, union in enumerate(UNIONS.values()):
        for block in changes[2 * number : 2 * number + 2]:
            apply(package / union, block)
    return folder


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_learner_an_encoder_and_a_loss_are_one_file_each_and_a_line_of_a_union(
    extended: Path, synthetic_store: Path
) -> None:
    found = run(extended, "-c", TRAIN, str(synthetic_store), EXPERIMENTS)
    names = ("mean_shift", "bayesian_head", "maml", "fomaml")
    assert found.splitlines() == [f"5 {name} True" for name in names]


def test_the_shared_tests_of_the_unions_hold_them(extended: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", extended)
    tests = [
        "tests/unit/models/encoders/test_encoders.py",
        "tests/unit/algorithms/losses/test_losses.py",
    ]
    for path in tests:
        (extended / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, extended / path)
    shown = run(extended, "-m", "pytest", "-v", "-p", "no:cacheprovider", *tests)
    assert all(name in shown for name in ("[Attention]", "name='pairwise'"))
