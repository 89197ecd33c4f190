import itertools
from typing import get_args

import pytest

from metarec_ray.algorithms.base import Learner
from metarec_ray.algorithms.rivals.grids import GRIDS
from metarec_ray.algorithms.union import Rival, name_of

BY_NAME: dict[str, type[Learner]] = {name_of(rival): rival for rival in get_args(Rival)}


@pytest.mark.parametrize("name", GRIDS)
def test_every_candidate_of_a_grid_is_a_learner(name: str):
    candidates = list(itertools.product(*GRIDS[name].values()))
    for values in candidates:
        learner = BY_NAME[name].model_validate(dict(zip(GRIDS[name], values, strict=True)))
        assert learner.kind == "rival"
    assert len(candidates) <= 12


def test_every_rival_with_something_to_choose_has_a_grid():
    rival = {name for name, learner in BY_NAME.items() if learner.kind == "rival"}
    assert rival - set(GRIDS) == {"popularity"}
