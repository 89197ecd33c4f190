"""`metarec init` on public data sets: a store is made of what it writes, without an edit."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from metarec_ray.config.experiment import Experiment, load
from metarec_ray.data.guess import writing
from metarec_ray.data.guess.guess import guess
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.store.writing import build_store
from tests.unit.data.guess.public_layouts import LAYOUTS, Right

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def guessed(folder: Path, right: Right) -> Experiment:
    log = str(folder / right.log)
    path = folder / "experiment.yaml"
    path.write_text(writing.experiment(guess(log, now=NOW), source=log, folder="run"))
    return load(path)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_public_data_set_needs_no_edit(tmp_path: Path, name: str) -> None:
    right = LAYOUTS[name](tmp_path)
    settings = guessed(tmp_path, right).data
    log = read_log(settings)
    events = log.events
    first = events["time"].min() if "time" in events.columns else None
    found = Right(
        right.log,
        settings.feedback,
        events["entity"].n_unique(),
        events["item"].n_unique(),
        len(events),
        None if first is None else int(str(first)) // 1_000_000,
    )
    assert found == right
    made = build_store(log, settings.model_copy(update={"buckets": 1}), tmp_path / "store")
    assert made.tasks == right.users
