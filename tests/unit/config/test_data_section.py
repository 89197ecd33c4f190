"""The data section alone is what it is in the whole experiment, without importing a learner."""

import subprocess
import sys
from pathlib import Path

import pytest

from metarec_ray.config import data_section
from metarec_ray.config.experiment import load
from metarec_ray.errors import ConfigError, DataError

TEXT = """
run: {dir: elsewhere}
train: {steps: 3}
data:
  path: log.csv
  columns: {entity: u, item: i, time: t}
  time_unit: ms
  items: {path: items.csv, id: "007"}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for name in ("log.csv", "items.csv"):
        (tmp_path / name).write_text("a\n")
    (tmp_path / "c.yaml").write_text(TEXT)
    return tmp_path / "c.yaml"


def test_it_is_that_of_the_experiment(config: Path) -> None:
    for sets in ([], ["data.items.id=01", "train.steps=7", "data.buckets=2"]):
        assert data_section.load(config, sets) == load(config, sets).data


@pytest.mark.parametrize(
    ("sets", "error", "said"),
    [
        (["data.nothing=1"], ConfigError, "data.nothing is not a known key"),
        (["data.path=none.csv"], DataError, "data.path must be a file or a folder that exists"),
        (["data.items.path=none.csv"], DataError, "data.items.path must be a file that exists"),
    ],
)
def test_mistakes_are_told_as_of_the_experiment(
    config: Path, sets: list[str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        data_section.load(config, sets)


def test_a_log_is_checked_before_a_learner_is_imported() -> None:
    program = (
        "import sys\n"
        "import metarec_ray.cli.datasets, metarec_ray.config.data_section\n"
        "import metarec_ray.data.inspection.check\n"
        "sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
