"""docs/extending.md by doing it: its file and its three lines, in a copy of the package."""

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
import sys
from pathlib import Path
from metarec_ray.config.experiment import parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.inference.recommender import Recommender, SupportEvent
from metarec_ray.training.fit import fit

train = {"steps": 3, "lanes": 2}
settings = {"algorithm": {"name": "mean_shift"}, "model": {"dim": 4}, "train": train}
served = Recommender(fit(parse(settings, "test"), TaskStore.open(Path(sys.argv[1]))))
ranked = served.rank([SupportEvent(served.ids[3])], k=5).items
print(len(ranked), served.metadata["algorithm"]["name"])
"""


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


def test_a_learner_is_one_file_and_three_lines(synthetic_store: Path, tmp_path: Path) -> None:
    package = tmp_path / "metarec_ray"
    shutil.copytree(ROOT / "metarec_ray", package, ignore=shutil.ignore_patterns("__pycache__"))
    (source,) = blocks("python")
    (package / "algorithms" / "closed_form" / "mean_shift.py").write_text(source, "utf-8")
    changes = blocks("diff")
    assert sum(line.startswith("+") for block in changes for line in block.splitlines()) == 3
    for block in changes[:2]:
        apply(package / "algorithms" / "union.py", block)
    run = [sys.executable, "-c", TRAIN, str(synthetic_store)]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5 mean_shift\n"
