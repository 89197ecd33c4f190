"""`metarec init` on public data sets: a store is made of what it writes, without an edit."""

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from metarec_ray.config.experiment import load
from metarec_ray.data.guess import writing
from metarec_ray.data.guess.finding import Mark, leaves, plain
from metarec_ray.data.guess.guess import Guess, guess
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data
from metarec_ray.data.store.writing import build_store
from tests.unit.data.guess.public_layouts import LAYOUTS, Right

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Case(NamedTuple):
    """A data set: its folder, what is right, what is guessed."""

    folder: Path
    right: Right
    found: Guess


@pytest.fixture(scope="module", params=LAYOUTS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    right = LAYOUTS[request.param](folder)
    return Case(folder, right, guess(str(folder / right.log), now=NOW))


def test_a_public_data_set_needs_no_edit(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(writing.experiment(case.found, source="log", folder="run"))
    settings = load(path).data
    log = read_log(settings)
    events = log.events
    first = events["time"].min() if "time" in events.columns else None
    found = Right(
        case.right.log,
        settings.feedback,
        events["entity"].n_unique(),
        events["item"].n_unique(),
        len(events),
        None if first is None else int(str(first)) // 1_000_000,
    )
    assert found == case.right
    made = build_store(log, settings.model_copy(update={"buckets": 1}), tmp_path / "store")
    assert made.tasks == case.right.users


def test_every_other_reading_may_stand_in_the_place_of_the_first(case: Case) -> None:
    for key, one in leaves(case.found.data):
        for value, _ in one.others if not isinstance(one.value, Mark) else ():
            tree = copy.deepcopy(plain(case.found.data))
            *above, last = key.split(".")
            section = tree
            for part in above:
                inner = section[part]
                assert isinstance(inner, dict)
                section = inner
            section[last] = value
            Data.model_validate(tree)
